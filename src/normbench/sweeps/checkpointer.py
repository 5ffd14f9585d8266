"""When the states of a stack are written: regularly, and before the process stops."""

from __future__ import annotations

import time
from collections.abc import Callable

from normbench import events
from normbench.engine.state import LaneState
from normbench.leases import RENEW_S
from normbench.spec import RunSpec
from normbench.store import Store
from normbench.sweeps import checkpoints
from normbench.sweeps.held_leases import HeldLeases, LeaseLost
from normbench.sweeps.plan import Pack
from normbench.sweeps.stopping import STOP
from normbench.sweeps.worker_process import Emit

#: Seconds between checkpoints: the most training time that is lost if the process is killed.
CHECKPOINT_EVERY_S = 20.0
#: Said when the process was asked to stop.
STOPPING = events.Notice("stopping: checkpoints are written; Ctrl-C again ends at once")


class Clockwork:
    """Called every second beside the training: asks for checkpoints and renews the leases in time."""

    def __init__(self, leases: HeldLeases, clock: Callable[[], float] = time.monotonic) -> None:
        self.leases, self.clock = leases, clock
        self.saved = self.renewed = clock()

    def __call__(self) -> None:
        now = self.clock()
        if now - self.saved >= CHECKPOINT_EVERY_S:
            self.saved = now
            STOP.pulse.wanted = True
        if now - self.renewed >= RENEW_S:
            self.renewed = now
            self.leases.renew(STOP.pulse)


class Checkpointer:
    """Writes the states every CHECKPOINT_EVERY_S, and before the process stops.

    If the disk refuses, it announces one notice and writes no more.
    """

    def __init__(self, pack: Pack, steps: int, store: Store, leases: HeldLeases, emit: Emit) -> None:
        self.pack, self.steps, self.store, self.leases, self.emit = pack, steps, store, leases, emit
        self.last = time.monotonic()

    def __call__(self, states: Callable[[], list[LaneState]]) -> None:
        """Write the states if it is time.

        Raises:
            LeaseLost: some runs must not be trained on. The others have a checkpoint of this step.
            Stopped:   the process was asked to stop.
        """
        STOP.pulse.wanted = False
        stopping = STOP.signal is not None
        alone = self.leases.held.issuperset(self.pack.signatures)
        if alone and not stopping and time.monotonic() - self.last < CHECKPOINT_EVERY_S:
            return
        if stopping:
            self.emit(STOPPING)
        self.last = time.monotonic()
        lost = self.leases.lost(self.pack.signatures)
        try:
            for spec, state in zip(self.pack.specs, states(), strict=True):
                if spec.signature not in lost:
                    self._save(spec, state, lost)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            self.last = float("inf")
            self.emit(events.Notice(f"no checkpoints for this stack: {str(error).splitlines()[0]}"))
        else:
            if stopping:
                self.emit(events.StackPaused(self.pack.signatures, STOP.pulse.step))
        if lost:
            raise LeaseLost(lost)
        STOP.check()

    def _save(self, spec: RunSpec, state: LaneState, lost: set[str]) -> None:
        try:
            checkpoints.save(state, spec, self.steps, self.store, self.leases.guard(spec.signature))
        except LeaseLost:
            lost.add(spec.signature)
