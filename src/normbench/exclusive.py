"""Work that one process does at a time, on all machines that share a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from normbench import leases
from normbench.leases import Lease, Watch
from normbench.run_folder import writing


@contextmanager
def exclusive(file: Path, busy: Callable[[], object]) -> Iterator[None]:
    """Hold a lease meanwhile. It is not renewed, so the work must take less than `leases.EXPIRES_S`.

    Args:
        file: of the lease.
        busy: called whenever another process is found to hold it: it waits, or raises.

    Raises:
        StoreFailure: the lease cannot be written.
    """
    lease, watch = Lease(), Watch()
    with writing(file.parent):
        while not leases.take(file, lease):
            if watch.held(file) is not None:
                busy()
    try:
        yield
    finally:
        leases.release(file, lease.token)
