"""Run several blocking calls in parallel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Thread


def wait_for_all(tasks: Sequence[Callable[[], None]]) -> None:
    """Run tasks in parallel and wait for all of them.

    The threads are daemons: a task that hangs must not keep the interpreter from ending. The threads of an
    executor would.

    Raises:
        Exception: the first error that a task raised.
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
