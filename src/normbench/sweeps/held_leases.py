"""The leases that this process holds while it trains: taken together, renewed together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from normbench import leases
from normbench.engine.pulse import Pulse
from normbench.leases import Lease, Watch
from normbench.leftovers import remove_leftovers
from normbench.spec import RunSpec
from normbench.store import Store


class LeaseLost(Exception):
    """Another process has taken over some runs, so this one must not write them. `signatures`: of these."""

    def __init__(self, signatures: Iterable[str]) -> None:
        self.signatures = frozenset(signatures)
        super().__init__(f"other processes have taken over {', '.join(sorted(self.signatures))}")


class HeldLeases:
    """Leases of runs, by signature. All have one token.

    Args:
        store: of the runs.
        watch: judges the leases of others.
    """

    def __init__(self, store: Store, watch: Watch) -> None:
        self._store, self._watch = store, watch
        self._lease = Lease()
        self._held: dict[str, None] = {}
        self._lost: set[str] = set()
        self._lock = threading.Lock()  # the thread that renews and the thread that trains

    def take(self, trainings: Sequence[Sequence[RunSpec]]) -> dict[str, Lease | None]:
        """Take the leases of runs, as far as they are free or have expired.

        The runs of one training are taken in the order of their signatures. At the first one that another
        process holds, the rest of this training is left to that process: it is taking them now. So two
        processes that want the same training never get half of it each.

        Returns:
            The runs that were not taken, with the lease of another process; None if it cannot be read.

        Raises:
            OSError: a lease cannot be written.
        """
        others: dict[str, Lease | None] = {}
        for training in trainings:
            signatures = sorted(spec.signature for spec in training)
            for place, signature in enumerate(signatures):
                taken, other = self._take(signature)
                if not taken:
                    others |= dict.fromkeys(signatures[place:], other)
                    break
        return others

    def _take(self, signature: str) -> tuple[bool, Lease | None]:
        file = self._store.lease_file(signature)
        for _ in range(3):
            if leases.take(file, self._lease):
                with self._lock:
                    self._held[signature] = None
                    self._lost.discard(signature)
                remove_leftovers(file.parent)
                return True, None
            seen = leases.read(file)
            if seen is None:
                continue  # it was released in this instant
            if not self._watch.has_expired(file, seen):
                return False, seen.lease
            leases.remove(file, seen)
        return False, None

    def start(self, first: int, steps: int, stack: int) -> None:
        """Say how the runs begin: from which step, of how many, and how many train together."""
        now = time.time()
        self._lease = replace(self._lease, since=now, first=first, step=first, steps=steps, stack=stack)
        self.renew(None)

    def renew(self, pulse: Pulse | None) -> None:
        """Renew all leases. If one was lost, `lost` says so, and the pulse asks for the loop's attention."""
        step = self._lease.step if pulse is None else pulse.step
        self._lease = replace(self._lease, renewed=time.time(), step=step)
        with self._lock:
            held = list(self._held)
        for signature in held:
            with suppress(OSError):  # the file system may answer again before the lease has expired
                if not leases.renew(self._store.lease_file(signature), self._lease):
                    self._lose(signature)
        if pulse is not None and self._lost:
            pulse.wanted = True

    @property
    def held(self) -> frozenset[str]:
        """The runs that this process trains, as far as it knows."""
        return frozenset(self._held)

    def lost(self, signatures: Sequence[str]) -> set[str]:
        """Those of the runs that must not be written, as the disk says now."""
        for signature in signatures:
            self._check(signature)
        return self._lost.intersection(signatures)

    def guard(self, signature: str) -> Callable[[], None]:
        """A function that raises LeaseLost if the run must not be written."""

        def check() -> None:
            if not self._check(signature):
                raise LeaseLost([signature])

        return check

    def release(self, signature: str) -> None:
        """Give a run back, because it has ended or will not be trained here."""
        with self._lock:
            self._held.pop(signature, None)
        leases.release(self._store.lease_file(signature), self._lease.token)

    def release_all(self) -> None:
        """Give all runs back."""
        for signature in list(self._held):
            self.release(signature)

    def _check(self, signature: str) -> bool:
        if signature not in self._held:
            return False
        if leases.holds(self._store.lease_file(signature), self._lease.token):
            return True
        self._lose(signature)
        return False

    def _lose(self, signature: str) -> None:
        with self._lock:
            if signature in self._held:
                del self._held[signature]
                self._lost.add(signature)
