"""The search for the best packing: which trials are made, and what follows from them."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import fmean
from typing import Protocol, TypeVar

from normbench.autotune import measurement
from normbench.autotune.capacity import capacity
from normbench.autotune.tuning import Measurement, measured_widths, next_width
from normbench.data.shape import Shape
from normbench.engine.stack_layout import StackLayout, algorithms, layouts
from normbench.spec import RunSpec

T = TypeVar("T")
#: A way to compute a convolution is tried in place of the first one where it takes less than this part of its
#: time.
GAIN = 0.9


class RunOnAll(Protocol):
    """Does something at the same time in as many processes as will train, and gives every answer."""

    def __call__(self, job: Callable[[], T], /) -> list[T]: ...


def search(
    spec: RunSpec,
    shape: Shape,
    most: int,
    trials: dict[int, Measurement],
    run_on_all: RunOnAll,
    *,
    room: Callable[[], int],
    seconds: float,
) -> None:
    """Try 1, 2, 4, … lanes, or as many as `engine.lanes` says, each in the forms that the engine leaves open.

    Args:
        shape:   of the data as the model gets them.
        most:    lanes that a sweep has for a stack.
        trials:  what is known by lanes; what is found is added.
        room:    lanes that there is memory for, going by what was found so far.
        seconds: that it may take; as many lanes as the table has for such runs are tried all the same.

    Raises:
        Exception: whatever a trial raises; what was found before is kept.
    """
    began = time.monotonic()
    left, kinds = layouts(spec.engine), algorithms(spec.engine)
    while (lanes := next_to_measure(spec, trials, most)) is not None and lanes <= room():
        usual = [_trial(spec, shape, lanes, StackLayout(layout, kinds[0]), run_on_all) for layout in left]
        found = min(usual, key=_seconds)
        if lanes > 1:
            left = [found.form.layout]
            if exceptions := _exceptions(spec, shape, found, kinds, run_on_all):
                mixed = StackLayout(found.form.layout, kinds[0], exceptions)
                found = min(found, _trial(spec, shape, lanes, mixed, run_on_all), key=_seconds)
        trials[lanes] = found
        took = time.monotonic() - began
        if lanes >= capacity(spec) and 2 * took > seconds:  # the next takes as long as all before
            break


def next_to_measure(spec: RunSpec, trials: dict[int, Measurement], most: int) -> int | None:
    """How many lanes are to be tried next; None where nothing is left open."""
    forms = len(layouts(spec.engine)) > 1 or (len(algorithms(spec.engine)) > 1 and most > 1)
    if spec.engine.lanes == "auto":
        return next_width(measured_widths(trials), most, capacity(spec)) if most > 1 or forms else None
    lanes = min(spec.engine.lanes, most)
    return lanes if forms and lanes not in trials else None


def _trial(spec: RunSpec, shape: Shape, lanes: int, form: StackLayout, run_on_all: RunOnAll) -> Measurement:
    seconds, taken = zip(*run_on_all(partial(measurement.step_time, spec, shape, lanes, form)), strict=True)
    return Measurement(lanes, form, fmean(seconds), max(taken))


def _exceptions(
    spec: RunSpec, shape: Shape, found: Measurement, kinds: list[str], run_on_all: RunOnAll
) -> dict[str, str]:
    """The convolutions that are faster otherwise by themselves, by name with how."""
    if len(kinds) == 1:
        return {}
    answers = run_on_all(partial(measurement.conv_times, spec, shape, found.lanes, found.form.layout, kinds))
    exceptions = {}
    for name in answers[0]:
        seconds = [fmean(each) for each in zip(*(answer[name] for answer in answers), strict=True)]
        if min(seconds) < GAIN * seconds[0]:
            exceptions[name] = kinds[seconds.index(min(seconds))]
    return exceptions


def _seconds(trial: Measurement) -> float:
    return trial.seconds
