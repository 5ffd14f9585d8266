"""The calls to wandb. They may block, so `wandb_runs` makes them on a background thread.

The session is online, then offline, then dead; it never goes back. Any error of wandb moves it one state on:
wandb's process is torn down, and offline the unfinished runs are opened again. The teardown is needed for two
reasons: every call raises after that process has died, and a run id counts as in use after a failed start.
"""

from __future__ import annotations

import os
from collections.abc import Callable
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
from normbench.record import FAILED, Record
from normbench.spec import TrackingSpec
from normbench.store import Store
from normbench.tracking.parallel_wait import wait_for_all
from normbench.tracking.sweep_summary import Summarize
from normbench.tracking.wandb_fields import config, group, metrics, name, results
from normbench.tracking.wandb_layers import layer_points
from normbench.tracking.wandb_setup import (
    OFFLINE,
    ONLINE,
    agent_run,
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
        self._store = Store(root)
        self._ended: dict[str, Record] = {}  # runs of the sweep that have a record
        self._state: str | None = None  # None until wandb is first needed
        self._wandb: Any = None
        self._is_set_up = False
        self._lanes: dict[str, Lane] = {}
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

    @property
    def upload_command(self) -> str:
        """The command that uploads what the server lacks."""
        return f"wandb sync --include-online {self._root / 'wandb'}"

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
                for signature, spec, group in zip(event.signatures, event.specs, event.groups, strict=True):
                    self._lanes.setdefault(signature, Lane(spec, group, sent=event.first_step or -1))
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
        upload = f"wandb login, then wandb sync {self._root / 'wandb'}"
        self._notice(f"wandb has no API key, so it works offline. To upload: {upload}")
        return OFFLINE

    def _degrade(self, error: Exception) -> None:
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        for lane in self._lanes.values():
            lane.run = None
        self._is_set_up = False
        with suppress(Exception, SystemExit):  # it exits if its process has failed
            self._wandb.teardown()
        if self._state == ONLINE:
            self._state = OFFLINE
            self._notice(f"wandb works offline from now on ({reason}). To upload: {self.upload_command}")
        else:
            self._state = DEAD
            self._notice(f"wandb failed, nothing more is tracked ({reason}); the local records are complete")

    def _open(self, signature: str) -> Any:
        lane = self._lanes[signature]
        if lane.run is None:
            lane.run = self._wandb.init(
                **self._identity(signature, lane),
                job_type=lane.spec.get("norm", {}).get("name"),
                tags=list(self._spec.tags) or None,  # None leaves those in WANDB_TAGS
                config=config(lane.spec, self._sweep.varying),
                dir=str(self._root),
                mode=self._state,
                reinit="create_new",  # the default returns the run that is already open
                resume="allow" if lane.sent >= 0 else None,  # None replaces an earlier attempt
                settings=minimal_settings(self._wandb),
            )
            lane.run.define_metric("epoch")
            lane.run.define_metric("images_seen")
            lane.run.define_metric("*", step_metric="images_seen")
        return lane.run

    def _identity(self, signature: str, lane: Lane) -> dict[str, str | None]:
        """What names a run of wandb. Under an agent, the environment holds id, project and entity."""
        environment = os.environ
        lone = environment.get("WANDB_NAME") if self._sweep.runs == 1 or self._trial is not None else None
        label = lane.group and group(lane.spec, lane.group)
        names = {
            "name": lone or name(lane.spec, self._sweep.varying),
            "group": environment.get("WANDB_RUN_GROUP") or label or None,
        }
        if self._trial is not None:
            return names
        return {"project": self._spec.project, "entity": self._spec.entity, "id": signature, **names}

    def _log(self, event: StackLogged) -> None:
        for signature, point in zip(event.signatures, event.points, strict=True):
            lane = self._lanes.get(signature)
            if lane is not None and lane.record is None and event.step > lane.sent:
                self._open(signature).log(metrics(point))
                lane.sent = event.step

    def _log_layers(self, signature: str) -> None:
        """Log what diagnostics found by layer. It is known when a run has ended, after its curve."""
        lane = self._lanes[signature]
        if lane.record is None or not lane.record.diagnostics:
            return
        images = lane.spec.get("batch", 1) * lane.spec.get("workers", 1)
        wandb = self._wandb
        run = self._open(signature)
        for point in layer_points(
            lane.record.diagnostics, images, lambda bins: wandb.Histogram(np_histogram=bins)
        ):
            run.log(point)

    def _finish(self, signatures: list[str]) -> None:
        for start in range(0, len(signatures), PARALLEL_FINISHES):
            some = signatures[start : start + PARALLEL_FINISHES]
            for signature in some:
                self._log_layers(signature)
            wait_for_all([partial(self._finish_run, s) for s in some])
            for signature in some:
                del self._lanes[signature]

    def _finish_run(self, signature: str) -> None:
        run, record = self._open(signature), self._lanes[signature].record
        if record is not None:
            run.summary.update(results(record, self._store.history(signature)))
        run.finish(exit_code=0 if record is not None and record.status != FAILED else 1)

    def _log_summary(self) -> None:
        """Open the summary run of the sweep, and give it our table."""
        varying = self._sweep.varying
        if self._summarize is None or (made := self._summarize(list(self._ended.values()), varying)) is None:
            return
        open_run = partial(self._wandb.init, dir=str(self._root), mode=self._state, reinit="create_new")
        run = open_run(**identity(self._spec, self._ended, varying), settings=minimal_settings(self._wandb))
        log_summary(self._wandb, run, made)
