"""What processes that were killed in the last instant of a run have left beside its result."""

from __future__ import annotations

from normbench.leases import Watch
from normbench.run_folder import clean
from normbench.store import Store


def tidy(store: Store, signature: str) -> None:
    """Remove lease, checkpoint, error.txt and temporary files of a finished run, unless a process trains it
    again.
    """
    file = store.lease_file(signature)
    if Watch().held(file) is None:
        clean(file.parent)
