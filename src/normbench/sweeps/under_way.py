"""Runs to train that are under way: from which step they go on, and which ones other processes train."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from normbench.leases import Lease
from normbench.phrases import counted
from normbench.run_states import PARTIAL, RUNNING, state_of
from normbench.spec import RunSpec
from normbench.store import Store
from normbench.sweeps.waiting import held_by


def notes(specs: Sequence[RunSpec], store: Store) -> Iterator[str]:
    """Lines for the user.

    Args:
        specs: the runs to train.
    """
    states = [state_of(store, spec.signature) for spec in specs]
    steps = Counter(state.step for state in states if state.step is not None and state.state != RUNNING)
    for step, count in sorted(steps.items()):
        yield f"{counted(count, 'run')} {'goes' if count == 1 else 'go'} on from step {step:,}"
    if unknown := sum(state.state == PARTIAL and state.step is None for state in states):
        yield f"{counted(unknown, 'run')} with a checkpoint of unknown step"
    holders: dict[str, tuple[Lease, int]] = {}
    for state in states:
        if (lease := state.lease) is not None:
            holders[str(lease.holder)] = lease, holders.get(str(lease.holder), (lease, 0))[1] + 1
    for lease, count in holders.values():
        yield held_by(lease, count)
