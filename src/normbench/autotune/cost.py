"""The cost of training a stack in seconds: the one model behind plans, estimates and the choice to measure.

A stack of K lanes takes

    S · (overhead · steps + byte_s · K · (lane bytes · steps + image bytes · images evaluated))

seconds. The bytes are computed from shapes. The correction S is the ratio of seconds that were measured to
seconds of this formula with S = 1. It comes from the first of these sources that exists:

    measured  steps of a stack of this workload, measured on this machine at the nearest width
    ended     runs like these that have ended on this kind of device, at the nearest width
    guess     nothing: S = 1, and the seconds are known within a factor only
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from pydantic import ValidationError

from normbench import paths
from normbench.autotune.workload import Workload
from normbench.engine.device import device_name
from normbench.engine.plateau import check_steps
from normbench.engine.recalibration import IMAGES as RECALIBRATION_IMAGES
from normbench.ranks import launched
from normbench.record import COMPLETE, Record
from normbench.spec import EvalSpec, RunSpec, trainings

Source = Literal["measured", "ended", "guess"]

#: Seconds of overhead per step of a stack, whatever its width, and seconds per byte, by kind of device.
OVERHEAD_S = {"cpu": 5e-4, "cuda": 1e-3}
BYTE_S = {"cpu": 6e-10, "cuda": 3e-11}
#: A guess is right within this factor (docs/decisions/006-cost-model.md). On a GPU nobody has measured it.
GUESS_FACTOR = {"cpu": 4.0, "cuda": 10.0}
#: Fields in which a run that has ended must equal the run to estimate; the closest likeness comes first.
_LIKENESS = (
    ("model", "norm", "weight", "placement", "data", "optim.name", "batch", "workers", "engine.precision"),
    ("model", "data", "batch", "workers", "engine.precision"),
)
#: Fields that do not change what a step costs.
_FREE = ("momentum", "eps")


@dataclass(frozen=True)
class Cost:
    """Estimated seconds of training one stack.

    seconds: until all its runs have their records.
    source:  of the estimate, see the module.
    factor:  the true seconds are expected between seconds / factor and seconds × factor; 1.0 unless the
             source is a guess.
    """

    seconds: float
    source: Source
    factor: float = 1.0


class CostModel:
    """Estimates stacks on this machine.

    Args:
        ended: gives the records of runs that have ended. It is called once, and only if a stack was not
               measured.
    """

    def __init__(self, ended: Callable[[], Iterable[Record]] = tuple) -> None:
        self._read_ended = ended
        self._ended: list[Record] | None = None
        self._alike: dict[str, list[_Ended]] = {}  # by stack key

    def cost(self, specs: Sequence[RunSpec], workload: Workload) -> Cost:
        """The cost of a stack.

        Args:
            specs:    the runs of the stack; those that share a training share a lane.
            workload: of these runs.

        Raises:
            InputError: the training split holds less than one step's images.
        """
        spec, lanes = specs[0], len(trainings(specs))
        guess = self.guess(specs, workload)
        formula = guess.seconds
        if (measured := workload.nearest(lanes)) is not None:
            one_step = _formula(workload, measured.lanes, 1, 0.0) / measured.lanes
            return Cost(formula * measured.lane_step_s / one_step, "measured")
        alike = self._runs_like(spec, workload)
        if alike:
            apart = min(run.apart(lanes) for run in alike)
            corrections = [run.correction for run in alike if run.apart(lanes) == apart]
            return Cost(formula * median(corrections), "ended")
        return guess

    def guess(self, specs: Sequence[RunSpec], workload: Workload) -> Cost:
        """The cost of a stack by shapes alone, as `cost` would give it if nothing else were known."""
        spec, lanes = specs[0], len(trainings(specs))
        steps = spec.length(workload.shape.train_images)
        images = evaluated_images(spec.eval, steps, workload, banks=len(specs) / lanes)
        images += len(check_steps(spec.schedule, steps)) * workload.shape.valid_images
        return Cost(_formula(workload, lanes, steps, images), "guess", GUESS_FACTOR[workload.device.type])

    def _runs_like(self, spec: RunSpec, workload: Workload) -> list[_Ended]:
        key = spec.stack_key()
        if key not in self._alike:
            if self._ended is None:
                self._ended = [record for record in self._read_ended() if record.status == COMPLETE]
            self._alike[key] = _runs_like(spec, workload, self._ended)
        return self._alike[key]


def evaluated_images(evaluation: EvalSpec, steps: int, workload: Workload, banks: float = 1.0) -> float:
    """Images that a lane evaluates in the course of its training.

    Args:
        evaluation: when the run is evaluated, and under which conditions at its end.
        steps:      of the run.
        workload:   gives the sizes of the splits.
        banks:      of statistics of the lane; each is evaluated.
    """
    shape = workload.shape
    test, train = shape.test_images + shape.valid_images, shape.train_images
    splits = 2 if shape.valid_images else 1  # statistics of training images are taken for each of them
    population = splits * min(RECALIBRATION_IMAGES, train)
    taken = {"adapt": test, "precise": population, "ema_precise": population}
    at_end = [
        test + min(taken.get(source.kind, 0), splits * source.images if source.images else math.inf)
        for source, _ in evaluation.conditions[1:]
    ]
    times = math.ceil(steps / (evaluation.every or steps))
    return banks * (times * test + sum(at_end))


@dataclass(frozen=True)
class _Ended:
    """A run that has ended: the width of its stack, and the correction that is right for it."""

    lanes: int
    correction: float

    def apart(self, lanes: int) -> float:
        """How far a width is from this one, by ratio."""
        return abs(math.log(self.lanes / lanes))


def _formula(workload: Workload, lanes: int, steps: int, images: float) -> float:
    """Seconds of a stack without correction.

    Args:
        steps:  that the stack takes.
        images: that each lane evaluates.
    """
    device = workload.device.type
    moved = lanes * (workload.lane_bytes * steps + workload.image_bytes * images)
    return OVERHEAD_S[device] * steps + BYTE_S[device] * moved


def _runs_like(spec: RunSpec, workload: Workload, records: Sequence[Record]) -> list[_Ended]:
    """The runs that have ended on this kind of device, on as many ranks, and are most like a run."""
    mine, device = spec.model_dump(mode="json"), device_name(workload.device)
    here = [
        record
        for record in records
        if record.environment.get("device") == device
        and record.provenance.get("ranks", 1) == launched().count
    ]
    for likeness in _LIKENESS:
        wanted = {path: _field(mine, path) for path in likeness}
        alike = (r for r in here if all(_field(r.spec, path) == value for path, value in wanted.items()))
        found = [ended for record in alike if (ended := _read(record, workload)) is not None]
        if found:
            return found
    return []


def _read(record: Record, workload: Workload) -> _Ended | None:
    """What the record of a run like those of a workload says; None if it lacks a number."""
    try:
        evaluation = EvalSpec.model_validate(record.spec["eval"])
        seconds, share = float(record.timing["stack_s"]), float(record.timing["train_s"])
        lanes, steps = int(record.provenance["stack_size"]), round(record.timing["steps_per_s"] * share)
        banks = seconds / share / lanes
        formula = _formula(workload, lanes, steps, evaluated_images(evaluation, steps, workload, banks))
        correction = seconds / formula
    except (KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError, ValidationError):
        return None
    return _Ended(lanes, correction) if lanes > 0 and 0 < correction < math.inf else None


def _field(spec: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path without the fields that cost nothing; None if the path leads nowhere."""
    node = paths.get(spec, path)
    return {k: v for k, v in node.items() if k not in _FREE} if isinstance(node, Mapping) else node
