"""The calls to wandb of one sweep. They may block or die, so they are made in a process of their own.

The session is online, then offline, then dead; it never goes back. Any error of wandb moves it one state on:
wandb's process is torn down, and offline the unfinished runs are opened again. The teardown is needed for two
reasons: every call raises after that process has died, and a run id counts as in use after a failed start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from normbench.events import (
    Event,
    RunEnded,
    RunEvaluated,
    RunFound,
    StackLogged,
    StackStarted,
    SweepStarted,
)
from normbench.phrases import counted
from normbench.record import Record
from normbench.spec import TrackingSpec
from normbench.store import Store
from normbench.tracking.parallel_wait import wait_for_all
from normbench.tracking.sweep_summary import Summarize
from normbench.tracking.wandb_core import end_wandb
from normbench.tracking.wandb_fields import group, results
from normbench.tracking.wandb_offline import OfflineSteps
from normbench.tracking.wandb_run import finish_run, log_layers, log_point, names, open_run
from normbench.tracking.wandb_server import Expected, still_absent
from normbench.tracking.wandb_setup import (
    OFFLINE,
    ONLINE,
    UPLOAD,
    agent_run,
    cause,
    has_api_key,
    minimal_settings,
    mode_of_environment,
)
from normbench.tracking.wandb_summary import identity, log_summary
from normbench.tracking.wandb_trial import Trial

DEAD = "dead"
PARALLEL_FINISHES = 32  # each waits for an upload


@dataclass
class Lane:
    """A run that trains, or that has ended and whose wandb run is not finished yet."""

    spec: dict[str, Any]
    group: str
    sent: int  # the last step that wandb has; -1: none
    run: Any = None  # wandb's run, if it is open
    record: Record | None = None  # None until the run ends


class WandbSession:
    """The wandb runs of one sweep. Errors of wandb never leave it.

    The curve of a run does not depend on its stack. If a stack was split, its wandb runs stay open.
    Points that are trained again are skipped. If all runs of a sweep have ended, one summary run follows.
    """

    def __init__(
        self,
        spec: TrackingSpec,
        root: Path,
        notice: Callable[[str], None],
        summarize: Summarize | None = None,
    ) -> None:
        self._spec, self._root, self._notice, self._summarize = spec, root, notice, summarize
        self._store, self._steps = Store(root), OfflineSteps(root)
        self._ended: dict[str, Record] = {}  # runs of the sweep that have a record
        self._state: str | None = None  # None until wandb is first needed
        self._wandb: Any = None
        self._is_set_up = False
        self._lanes: dict[str, Lane] = {}
        self._sent: dict[str, Expected] = {}  # what the server must have of the runs that ended online
        self._sweep = SweepStarted(runs=0, finished=0, stacks=0, steps=0)
        agent = agent_run()
        self._trial = None if agent is None else Trial(agent, notice)

    @property
    def has_agent(self) -> bool:
        """Whether a wandb agent started this command. It also wants the runs that were finished before."""
        return self._trial is not None

    @property
    def alive(self) -> bool:
        """False if nothing more will be tracked."""
        return self._state != DEAD

    def handle_all(self, events: Sequence[Event]) -> bool:
        """Pass events to wandb and finish the runs that have ended; False if nothing more will be tracked."""
        for event in events:
            self.handle(event)
        self.finish_ended()
        return self.alive

    def handle(self, event: Event) -> None:
        """Pass an event to wandb. `finish_ended` finishes the runs that have ended."""
        match event:
            case SweepStarted():
                self._sweep = event
                self._ended.clear()
            case RunFound(record=record) | RunEnded(record=record) | RunEvaluated(record=record):
                self._ended[record.signature] = record
        for own in [event] if self._trial is None else self._trial.translate(event):
            self._handle(own)

    def _handle(self, event: Event) -> None:
        match event:
            case StackStarted():
                self.finish_ended()  # a run that is trained again starts anew
                for signature, spec, digest in zip(event.signatures, event.specs, event.groups, strict=True):
                    self._lanes.setdefault(signature, Lane(spec, digest, sent=event.first_step or -1))
                self._attempt(lambda: [self._open(signature) for signature in event.signatures])
            case StackLogged():
                self._attempt(lambda: self._log(event))
            case RunEnded(record=record) if record.signature in self._lanes:
                self._lanes[record.signature].record = record

    def finish_ended(self) -> None:
        """Finish the runs that have ended, in parallel."""
        self._attempt(lambda: self._finish([s for s, lane in self._lanes.items() if lane.record is not None]))

    def close(self) -> None:
        """Finish every run. A run that has not ended is marked as failed until it is resumed."""
        for own in [] if self._trial is None else self._trial.close():
            self._handle(own)
        self._attempt(lambda: self._finish(list(self._lanes)))
        if self._state is not None and self._trial is None and 1 < self._sweep.runs == len(self._ended):
            self._attempt(self._log_summary)
        if self._state == ONLINE and self._trial is None:
            self._confirm()

    def _confirm(self) -> None:
        """Ask the server whether it has all. wandb says nothing if the server refused the points of a run."""
        with suppress(Exception):  # it does not say
            lacking = still_absent(self._wandb, self._spec.project, self._spec.entity, self._sent)
            if lacking:
                runs = counted(len(lacking), "run")
                self._notice(f"wandb's server lacks data of {runs}. To upload: {UPLOAD}")

    def _attempt(self, action: Callable[[], object]) -> None:
        while self.alive:
            try:
                if not self._is_set_up:
                    self._set_up()
                action()
                return
            except Exception as error:
                self._degrade(error)

    def _set_up(self) -> None:
        """Import wandb and start its process. Choose between online and offline if it is the first time."""
        self._wandb = import_module("wandb")
        self._root.mkdir(parents=True, exist_ok=True)  # else wandb writes to a temporary folder
        settings = self._wandb.setup(settings=self._wandb.Settings(silent=True)).settings
        if self._trial is None:  # what the environment says about one run must not reach every run
            settings.sweep_id = settings.resume = None
        self._is_set_up = True
        if self._state is None:
            self._state = self._mode(settings)

    def _mode(self, settings: Any) -> str:
        if (mode_of_environment() or self._spec.mode) == OFFLINE:
            return OFFLINE
        if settings.api_key or has_api_key(settings.base_url):
            return ONLINE
        self._notice(f"wandb has no API key, so it works offline. To upload: wandb login, then {UPLOAD}")
        return OFFLINE

    def _degrade(self, error: Exception) -> None:
        reason = cause(error)
        for lane in self._lanes.values():
            lane.run = None
        self._is_set_up = False
        end_wandb()
        if self._state == ONLINE:
            self._state = OFFLINE
            self._notice(f"wandb works offline from now on ({reason}). To upload: {UPLOAD}")
        else:
            self._state = DEAD
            self._notice(
                f"wandb failed, nothing more is tracked ({reason}); the local records are complete. "
                f"To upload: {UPLOAD}"
            )

    def _open(self, signature: str) -> Any:
        lane = self._lanes[signature]
        if lane.run is None:
            resumed = lane.sent >= 0
            lane.run = open_run(
                self._wandb, self._identity(signature, lane), lane.spec, self._sweep.varying,
                self._spec.tags, self._root, self._state, resumed=resumed,
            )  # fmt: skip
            lane.sent = max(lane.sent, lane.run.starting_step - 1)  # the server may have later points
            if resumed and self._state == OFFLINE:
                lane.sent = max(lane.sent, self._steps.last(signature))
        return lane.run

    def _identity(self, signature: str, lane: Lane) -> dict[str, Any]:
        """What names a run of wandb. Under an agent, the environment holds id, project and entity."""
        lone = self._sweep.runs == 1 or self._trial is not None
        label = group(lane.spec, lane.group) if lane.group else None
        found = names(lane.spec, label, self._sweep.varying, lone=lone)
        if self._trial is not None:
            return found
        return {"project": self._spec.project, "entity": self._spec.entity, "id": signature, **found}

    def _log(self, event: StackLogged) -> None:
        for signature, point in zip(event.signatures, event.points, strict=True):
            lane = self._lanes.get(signature)
            if lane is None or lane.record is not None:
                continue
            run = self._open(signature)  # it may say that the server has later points
            if event.step > lane.sent:
                log_point(run, event.step, point)
                lane.sent = event.step
                if self._state == OFFLINE:
                    self._steps.keep(signature, event.step)

    def _finish(self, signatures: list[str]) -> None:
        for start in range(0, len(signatures), PARALLEL_FINISHES):
            some = signatures[start : start + PARALLEL_FINISHES]
            for signature in some:
                lane = self._lanes[signature]
                rows = () if lane.record is None else lane.record.diagnostics
                log_layers(self._wandb, self._open(signature), lane.spec, rows)
            wait_for_all([partial(self._finish_run, s) for s in some])
            for signature in some:
                del self._lanes[signature]

    def _finish_run(self, signature: str) -> None:
        run, record = self._open(signature), self._lanes[signature].record
        history = () if record is None else self._store.history(signature)
        finish_run(run, record, history)
        if record is not None:
            self._steps.forget(signature)
        if record is not None and self._state == ONLINE:
            steps = {row["step"] for row in record.diagnostics}
            self._sent[signature] = Expected(results(record, history), len(history) + len(steps))

    def _log_summary(self) -> None:
        """Open the summary run of the sweep, and give it our table."""
        varying = self._sweep.varying
        if self._summarize is None or (made := self._summarize(list(self._ended.values()), varying)) is None:
            return
        start = partial(self._wandb.init, dir=str(self._root), mode=self._state, reinit="create_new")
        run = start(**identity(self._spec, self._ended, varying), settings=minimal_settings(self._wandb))
        log_summary(self._wandb, run, made)
