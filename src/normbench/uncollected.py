"""A pause of Python's garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Collect no garbage meanwhile.

    PERF: torch makes half a million objects that stay, and ten thousand records make millions. The collector
    would look at them again and again, which takes a tenth of an import of torch and a third of the reading.
    """
    if not gc.isenabled():  # an outer pause, or the user's own
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
