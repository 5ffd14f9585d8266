"""What is done with wandb, call by call. May block; `wandb_runs` keeps that away from the sweep.

Three states, left in this order only: online, offline, dead. Whatever wandb raises moves the whole sweep one
state on: its process is torn down, and the runs under way are opened again where there is a next state. The
teardown is needed: after its process has died every call raises, and after a failed start online the id
counts as in use.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from normbench.events import Event, RunEnded, StackLogged, StackStarted
from normbench.record import FAILED, Record
from normbench.spec import TrackingSpec
from normbench.tracking.parallel_wait import wait_for_all
from normbench.tracking.wandb_fields import config, metrics, name
from normbench.tracking.wandb_setup import OFFLINE, ONLINE, has_key, lean_settings, mode_of_environment

DEAD = "dead"
AT_ONCE = 32  # runs that finish together


@dataclass
class Lane:
    """A run that trains, or that ended and is not finished with wandb yet."""

    spec: dict[str, Any]
    group: str
    sent: int  # the last step whose point wandb has; -1: none
    run: Any = None  # wandb's handle, while open
    record: Record | None = None  # once ended


class WandbSession:
    """The wandb runs of one sweep. No method raises what wandb raises.

    A lane's curve does not depend on the stack that it is trained in. So a run whose stack was split stays
    open, and the points that its next stack trains again are skipped.
    """

    def __init__(self, spec: TrackingSpec, root: Path, say: Callable[[str], None]) -> None:
        self._spec, self._root, self._say = spec, root, say
        self._state: str | None = None  # None: not started
        self._wandb: Any = None
        self._lanes: dict[str, Lane] = {}

    @property
    def alive(self) -> bool:
        """False once nothing more will be tracked."""
        return self._state != DEAD

    @property
    def remedy(self) -> str:
        """The command that uploads what is missing of runs that began online."""
        return f"wandb sync --include-online {self._root / 'wandb'}"

    def handle(self, event: Event) -> None:
        """Pass an event on to wandb. Ended runs are finished by `settle`."""
        match event:
            case StackStarted():
                self.settle()  # a run that is trained once more starts anew
                for signature, spec, group in zip(event.signatures, event.specs, event.groups, strict=True):
                    self._lanes.setdefault(signature, Lane(spec, group, sent=event.first_step or -1))
                self._attempt(lambda: [self._open(signature) for signature in event.signatures])
            case StackLogged():
                self._attempt(lambda: self._log(event))
            case RunEnded(record=record) if record.signature in self._lanes:
                self._lanes[record.signature].record = record

    def settle(self) -> None:
        """Finish the runs that ended: together, because each waits for an upload of its own."""
        self._attempt(lambda: self._finish([s for s, lane in self._lanes.items() if lane.record is not None]))

    def close(self) -> None:
        """Finish every run; one that has not ended counts as failed with wandb until it is resumed."""
        self._attempt(lambda: self._finish(list(self._lanes)))

    def _attempt(self, action: Callable[[], object]) -> None:
        while self.alive:
            try:
                if self._state is None:
                    self._state = self._start()
                action()
                return
            except Exception as error:
                self._step_down(error)

    def _start(self) -> str:
        """Import wandb and decide between online and offline."""
        self._wandb = import_module("wandb")
        self._root.mkdir(parents=True, exist_ok=True)  # or wandb would silently take the temporary folder
        settings = self._wandb.setup(settings=self._wandb.Settings(silent=True)).settings
        if (mode_of_environment() or self._spec.mode) == OFFLINE:
            return OFFLINE
        if settings.api_key or has_key(settings.base_url):
            return ONLINE
        upload = f"wandb login, then wandb sync {self._root / 'wandb'}"
        self._say(f"wandb has no API key and works offline. To upload: {upload}")
        return OFFLINE

    def _step_down(self, error: Exception) -> None:
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        for lane in self._lanes.values():
            lane.run = None
        with suppress(Exception, SystemExit):  # it exits where its process failed
            self._wandb.teardown()
        if self._state == ONLINE:
            self._state = OFFLINE
            self._say(f"wandb works offline from here on ({reason}). To upload: {self.remedy}")
        else:
            self._state = DEAD
            self._say(
                f"wandb does not work, nothing more is tracked ({reason}); the local records are complete"
            )

    def _open(self, signature: str) -> Any:
        lane = self._lanes[signature]
        if lane.run is None:
            lane.run = self._wandb.init(
                project=self._spec.project,
                entity=self._spec.entity,
                id=signature,
                name=name(lane.spec),
                group=lane.group,
                job_type=lane.spec["norm"]["name"],
                tags=list(self._spec.tags),
                config=config(lane.spec),
                dir=str(self._root),
                mode=self._state,
                reinit="create_new",  # the default hands out the run that is open already
                resume="allow" if lane.sent >= 0 else None,  # None replaces what an earlier try left
                settings=lean_settings(self._wandb),
            )
            lane.run.define_metric("epoch")
            lane.run.define_metric("images_seen")
            lane.run.define_metric("*", step_metric="images_seen")
        return lane.run

    def _log(self, event: StackLogged) -> None:
        for signature, point in zip(event.signatures, event.points, strict=True):
            lane = self._lanes.get(signature)
            if lane is not None and lane.record is None and event.step > lane.sent:
                self._open(signature).log(metrics(point))
                lane.sent = event.step

    def _finish(self, signatures: list[str]) -> None:
        for start in range(0, len(signatures), AT_ONCE):
            some = signatures[start : start + AT_ONCE]
            wait_for_all([partial(_finish, self._open(s), self._lanes[s].record) for s in some])
            for signature in some:
                del self._lanes[signature]


def _finish(run: Any, record: Record | None) -> None:
    if record is not None:
        run.summary.update({**metrics(record.timing), **metrics(record.metrics), "status": record.status})
    run.finish(exit_code=0 if record is not None and record.status != FAILED else 1)
