"""How the runs of a sweep are packed: as the words ask, as was measured on this machine, or by a table.

Measurements lie in the results' cache folder, a file for each kind of run, and hold for a device, a number of
processes at work at once, their threads, and a version of torch.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from normbench import models
from normbench.autotune import measurement
from normbench.autotune.capacity import capacity, threads
from normbench.autotune.memory import affordable, free
from normbench.autotune.search import RunOnAll, next_to_measure, search
from normbench.autotune.tuning import Measurement, Tuning, best_width, measured_widths
from normbench.data.shape import Shape
from normbench.data.shapes import shape_of
from normbench.engine.device import device_name, find_device
from normbench.engine.stack_layout import StackLayout, default_layout
from normbench.errors import reason
from normbench.files import write_atomically
from normbench.spec import RunSpec, trainings

#: Of measurements: another one where they are taken otherwise.
SCHEMA = 1
#: A kind of run is measured where its training takes that long at a guess, for that part of it and no longer
#: than that.
WORTH_S, PART, MOST_S = 120.0, 0.05, 15.0
#: Seconds that a byte of a lane costs in a step, for that guess; a CPU core and a GPU (docs/decisions/003).
S_PER_BYTE = {"cpu": 1e-9, "cuda": 3e-11}
LEAST_S = 1e-4


@dataclass
class Kind:
    """Runs that are packed alike, and what is known of them."""

    key: dict[str, Any]
    file: Path
    shape: Shape
    device: torch.device
    bytes: int  # of a lane, going by shapes
    trials: dict[int, Measurement] = field(default_factory=dict)
    searched: int = 0  # for stacks of up to so many lanes
    day: str = ""

    def lanes_that_fit(self, stacks: int) -> int:
        """Lanes for which there is memory now, where so many stacks train at once."""
        per_lane = max((t.bytes // t.lanes for t in self.trials.values()), default=self.bytes)
        return affordable(per_lane, stacks, free(self.device))


class Tuner:
    """Knows how to pack every run of a sweep.

    Args:
        cache:  the results' cache folder; nothing is created before something was measured.
        stacks: that train at once.
    """

    def __init__(self, cache: Path, stacks: int) -> None:
        self.cache, self.stacks = cache, stacks
        self._kinds: dict[str, Kind] = {}  # by stack key; several keys may be one kind

    def of(self, spec: RunSpec) -> Tuning:
        """How such runs are packed.

        Raises:
            InputError: a run that cannot be built as asked.
        """
        kind = self._kind(spec)
        known, fitting = measured_widths(kind.trials), kind.lanes_that_fit(self.stacks)
        if spec.engine.lanes != "auto":
            lanes, source = spec.engine.lanes, "as asked"
        elif known:
            lanes, source = best_width(known), f"as measured here {kind.day}"
        else:
            lanes, source = capacity(spec), "by default"
        if spec.engine.lanes == "auto" and fitting < lanes:
            lanes, source = fitting, "as memory allows"
        return Tuning(lanes, source, default_layout(spec.engine, kind.device), tuple(kind.trials.values()))

    def capacity(self, spec: RunSpec) -> int:
        """The most lanes of a stack of such runs."""
        return self.of(spec).lanes

    def measure(self, packs: Sequence[Sequence[RunSpec]], run_on_all: RunOnAll) -> Iterator[str]:
        """Measure what pays and is not known yet; yields what a user should be told.

        Args:
            packs: the runs to train, in stacks as wide as the sweep has runs for them.
            run_on_all:   does something in every process that will train.
        """
        todo = self._unknown(packs)
        if todo:
            kinds = f"{len(todo)} kinds of stacks" if len(todo) > 1 else "a stack"
            yield f"measuring how to pack {kinds} on this machine; the next sweep remembers"
        for kind, spec, most, seconds in todo:
            if self.stacks == 1:
                torch.set_num_threads(threads(spec))
            try:
                search(
                    spec, kind.shape, most, kind.trials, run_on_all, seconds=min(PART * seconds, MOST_S),
                    room=partial(kind.lanes_that_fit, self.stacks),
                )  # fmt: skip
            except Exception as error:  # the trial of a stack must not cost the sweep that it is to speed up
                kind_of_run = f"{spec.model.name} with norm={spec.norm.name}"
                yield f"packing of {kind_of_run}: a trial failed: {reason(error)}"
            measurement.release()
            if kind.trials:
                kind.searched = most
                _keep(kind)

    def lines(self, packs: Sequence[Sequence[RunSpec]], wide: Sequence[Sequence[RunSpec]]) -> list[str]:
        """For a reader of a plan: how stacks are packed, and where training would measure first."""
        unknown = {kind.file for kind, *_ in self._unknown(wide)}
        said: Counter[str] = Counter()
        for pack in packs:
            spec = pack[0]
            first = "; training measures first" if self._kind(spec).file in unknown else ""
            said[f"{self.of(spec)}{first}"] += 1
        if len(said) == 1:
            return list(said)
        return [f"{count} stack{'s' * (count > 1)}: {text}" for text, count in said.items()]

    def _unknown(self, packs: Sequence[Sequence[RunSpec]]) -> list[tuple[Kind, RunSpec, int, float]]:
        """The kinds that are worth measuring, each with one of its runs, the lanes of its widest stack, and
        the seconds that training all of its runs takes at a guess.
        """
        found: dict[Path, tuple[Kind, RunSpec, int, float]] = {}
        for pack in packs:
            spec, lanes = pack[0], len(trainings(pack))
            kind = self._kind(spec)
            step = max(LEAST_S, kind.bytes * S_PER_BYTE[kind.device.type])
            guess = lanes * spec.length(kind.shape.train_images) * step / self.stacks
            *_, most, seconds = found.get(kind.file, (kind, spec, 0, 0.0))
            found[kind.file] = kind, spec, max(most, lanes), seconds + guess
        return [
            (kind, spec, most, seconds)
            for kind, spec, most, seconds in found.values()
            if seconds >= WORTH_S
            and most > kind.searched
            and (next_to_measure(spec, kind.trials, most) or math.inf) <= kind.lanes_that_fit(self.stacks)
        ]

    def _kind(self, spec: RunSpec) -> Kind:
        key = spec.stack_key()
        if key not in self._kinds:
            made = self._made(spec)
            alike = (kind for kind in self._kinds.values() if kind.file == made.file)
            self._kinds[key] = next(alike, made)
        return self._kinds[key]

    def _made(self, spec: RunSpec) -> Kind:
        device = find_device(spec.engine.device)
        shape = models.fitted(spec, shape_of(spec.data, self.cache))
        key = {
            "schema": SCHEMA, "torch": torch.__version__, "device": device_name(device),
            "stacks": self.stacks,
            "threads": threads(spec) if self.stacks == 1 else 1, **_shaping(spec, shape),
        }  # fmt: skip
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        file = self.cache / "packing" / f"{digest}.json"
        return Kind(key, file, shape, device, models.footprint(spec, shape), **_kept(file, key))


def _shaping(spec: RunSpec, shape: Shape) -> dict[str, Any]:
    """What of a run shapes the work of a step."""
    tree = spec.model_dump(mode="json", include={"model", "norm", "weight", "placement", "batch", "workers"})
    for knob in ("momentum", "eps"):
        tree["norm"].pop(knob)
    return {
        **tree, "channels": shape.channels, "size": shape.size, "classes": shape.classes,
        "flip": spec.data.flip, "crop": spec.data.crop, "optim": spec.optim.name, "clip": spec.optim.clip,
        "engine": spec.engine.model_dump(mode="json", exclude={"device", "lanes", "processes"}),
    }  # fmt: skip


def _kept(file: Path, key: dict[str, Any]) -> dict[str, Any]:
    """What is known of a kind; nothing where there is no file, or one that is torn or of another kind."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["key"] != key:
            return {}
        trials = [Measurement(**{**each, "form": StackLayout(**each["form"])}) for each in kept["trials"]]
        return {
            "trials": {each.lanes: each for each in trials},
            "searched": int(kept["searched"]),
            "day": str(kept["day"]),
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _keep(kind: Kind) -> None:
    """Write what was measured; where the disk refuses, the sweep goes on with it all the same."""
    kind.day = f"{datetime.now(UTC).astimezone():%Y-%m-%d}"
    trials = [asdict(each) for each in kind.trials.values()]
    kept = {"key": kind.key, "day": kind.day, "searched": kind.searched, "trials": trials}
    with suppress(OSError):
        kind.file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kind.file, json.dumps(kept, indent=1) + "\n")
