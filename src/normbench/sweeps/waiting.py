"""Waiting for runs that other processes train: until they have ended, or their holder is gone."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from normbench import events
from normbench.leases import Lease, Watch
from normbench.phrases import counted
from normbench.processes import Process
from normbench.spec import RunSpec
from normbench.store import Store
from normbench.sweeps.findings import ended_since
from normbench.sweeps.worker_process import Emit

#: Seconds between two looks at the runs.
POLL_S = 1.0


class Waiting:
    """Waits for runs of other processes.

    Args:
        store:    of the runs.
        failures: signature → when the run had failed before the command began.
        emit:     gets a notice per holder, and the runs that have ended elsewhere.
        watch:    judges the leases.
        sleep:    waits for so many seconds.
    """

    def __init__(
        self,
        store: Store,
        failures: Mapping[str, str],
        emit: Emit,
        watch: Watch | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store, self._failures, self._emit = store, failures, emit
        self._watch, self._sleep = watch or Watch(), sleep
        self._told: set[Process] = set()

    def until_free(self, specs: Sequence[RunSpec]) -> tuple[list[RunSpec], list[RunSpec]]:
        """Wait until some of the runs can be trained here, or all have ended elsewhere.

        Returns:
            The runs that are free now, and those that other processes still train.
        """
        held = list(specs)
        while held:
            free, still = [], []
            holders: dict[str, tuple[RunSpec, Lease | None]] = {}
            for spec in held:
                if (record := ended_since(spec, self._store, self._failures)) is not None:
                    self._emit(events.RunEndedElsewhere(record))
                elif (lease := self._holder(spec)) is FREE:
                    free.append(spec)
                else:
                    still.append(spec)
                    holders[spec.signature] = spec, lease
            if free:
                return free, still
            self._tell([lease for _, lease in holders.values()])
            held = still
            if held:
                self._sleep(POLL_S)
        return [], []

    def _holder(self, spec: RunSpec) -> Lease | None:
        """The lease of a run; FREE if there is none or it has expired, None if it cannot be read."""
        file = self._store.lease_file(spec.signature)
        seen = self._watch.held(file)
        return FREE if seen is None else seen.lease

    def _tell(self, held: Sequence[Lease | None]) -> None:
        """Announce each holder once."""
        counts = Counter(lease.holder for lease in held if lease is not None)
        first = {lease.holder: lease for lease in reversed(held) if lease is not None}
        for holder, count in counts.items():
            if holder not in self._told:
                self._told.add(holder)
                self._emit(events.Notice(held_by(first[holder], count) + "; waiting"))


#: Stands for a lease that nobody holds.
FREE = Lease(token="")


def held_by(lease: Lease, count: int) -> str:
    """Who trains some runs, in words."""
    are = "is" if count == 1 else "are"
    since = time.strftime("%H:%M:%S", time.localtime(lease.since))
    return f"{counted(count, 'run')} {are} being trained by {lease.holder} since {since}"
