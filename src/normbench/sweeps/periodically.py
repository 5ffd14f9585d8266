"""Do something again and again beside the training of this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def periodically(seconds: float, action: Callable[[], None]) -> Iterator[None]:
    """Call `action` in a thread every so many seconds, until the block ends. It must not raise."""
    over = threading.Event()

    def loop() -> None:
        while not over.wait(seconds):
            action()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=10)
