"""Several waits at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Thread


def wait_for_all(tasks: Sequence[Callable[[], None]]) -> None:
    """Run tasks at the same time and wait for all; the first error is raised.

    On daemon threads: those of an executor would keep the interpreter from ending while one hangs.
    """
    errors: list[Exception] = []

    def attempt(task: Callable[[], None]) -> None:
        try:
            task()
        except Exception as error:
            errors.append(error)

    threads = [Thread(target=attempt, args=(task,), daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
