"""The search for the best width and layout: which stacks are measured, and in which order."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import fmean
from typing import Protocol, TypeVar

from normbench.autotune import measurement
from normbench.autotune.default_widths import default_width, first_width
from normbench.autotune.tuning import Measurement, measured_widths, next_width
from normbench.data.shape import Shape
from normbench.engine.stack_layout import StackLayout, algorithms, memory_formats
from normbench.spec import RunSpec

T = TypeVar("T")
#: A convolution gets another algorithm if that takes less than this share of the default one's time.
GAIN = 0.9


class RunOnAll(Protocol):
    """Runs a job in all processes that will train, at the same time, and returns every answer."""

    def __call__(self, job: Callable[[], T], /) -> list[T]: ...


def search(
    spec: RunSpec,
    shape: Shape,
    most: int,
    measurements: dict[int, Measurement],
    run_on_all: RunOnAll,
    *,
    room: Callable[[], int],
    seconds: float,
) -> None:
    """Measure stacks of 1, 2, 4, … lanes (on a GPU 32, 64, …), or of `engine.lanes` lanes if it is a number.

    Each width is measured in every layout that the engine allows. From two lanes on, only the faster memory
    format is kept.

    Args:
        shape:        of the data as the model gets them.
        most:         lanes that a stack of the sweep can have.
        measurements: what is known, by width. The search adds what it finds.
        run_on_all:   runs a measurement in every process that will train.
        room:         the most lanes that fit into memory, judged by what was found so far.
        seconds:      the time that the search may take. It reaches the default width in any case.

    Raises:
        Exception: whatever a measurement raises. What was found before is kept.
    """
    began = time.monotonic()
    formats, candidates = memory_formats(spec.engine), algorithms(spec.engine)
    while (lanes := next_to_measure(spec, measurements, most, room())) is not None and lanes <= room():
        tried = [
            _measure(spec, shape, lanes, StackLayout(name, candidates[0]), run_on_all) for name in formats
        ]
        fastest = min(tried, key=_lane_step_s)
        if lanes > 1:
            formats = [fastest.layout.memory_format]
            if exceptions := _exceptions(spec, shape, fastest, candidates, run_on_all):
                mixed = StackLayout(formats[0], candidates[0], exceptions)
                fastest = min(fastest, _measure(spec, shape, lanes, mixed, run_on_all), key=_lane_step_s)
        measurements[lanes] = fastest
        took = time.monotonic() - began
        if lanes >= default_width(spec) and 2 * took > seconds:  # the next width takes as long as all before
            break


def next_to_measure(spec: RunSpec, measurements: dict[int, Measurement], most: int, room: int) -> int | None:
    """The width to measure next, or None if there is nothing to choose.

    Args:
        measurements: what is known, by width.
        most:         lanes that a stack of the sweep can have.
        room:         lanes that fit into memory, judged by what is known.
    """
    choice = len(memory_formats(spec.engine)) > 1 or (len(algorithms(spec.engine)) > 1 and most > 1)
    if spec.engine.lanes == "auto":
        first = first_width(spec, min(most, room))
        known = measured_widths(measurements, first)
        return next_width(known, most, default_width(spec), first) if most > 1 or choice else None
    lanes = min(spec.engine.lanes, most)
    return lanes if choice and lanes not in measurements else None


def _measure(
    spec: RunSpec, shape: Shape, lanes: int, layout: StackLayout, run_on_all: RunOnAll
) -> Measurement:
    """Measure a stack in all processes: the mean of the times, the most of the memory."""
    seconds, memory = zip(
        *run_on_all(partial(measurement.step_time, spec, shape, lanes, layout)), strict=True
    )
    return Measurement(lanes, layout, fmean(seconds), max(memory))


def _exceptions(
    spec: RunSpec, shape: Shape, measured: Measurement, candidates: list[str], run_on_all: RunOnAll
) -> dict[str, str]:
    """The convolutions that another algorithm computes faster, measured alone: algorithm by layer name."""
    if len(candidates) == 1:
        return {}
    job = partial(
        measurement.conv_times, spec, shape, measured.lanes, measured.layout.memory_format, candidates
    )
    answers = run_on_all(job)
    exceptions = {}
    for name in answers[0]:
        seconds = [fmean(each) for each in zip(*(answer[name] for answer in answers), strict=True)]
        if min(seconds) < GAIN * seconds[0]:
            exceptions[name] = candidates[seconds.index(min(seconds))]
    return exceptions


def _lane_step_s(measured: Measurement) -> float:
    return measured.lane_step_s
