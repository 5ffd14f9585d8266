"""The width of a stack: the measured widths, the next one to measure, and the best one.

The width of a stack is its number of lanes. Stacks of 1, 2, 4, … lanes are measured until wider ones are no
longer faster.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from normbench.engine.stack_layout import StackLayout
from normbench.phrases import counted

#: A width is as good as the best one if its step costs at most AS_GOOD times as much per lane; the narrowest
#: such width is chosen. A width is worse if its step costs more than WORSE times as much per lane.
AS_GOOD, WORSE = 1.03, 1.05


@dataclass(frozen=True)
class Measurement:
    """A few steps of one stack, measured on this machine.

    lanes:       the width of the stack.
    layout:      the fastest layout at this width.
    lane_step_s: seconds of one step of the stack, divided by its lanes.
    stack_bytes: bytes that the whole stack takes.
    """

    lanes: int
    layout: StackLayout
    lane_step_s: float
    stack_bytes: int


@dataclass(frozen=True)
class Tuning:
    """The width and the layouts of the stacks of one workload.

    lanes:          the most lanes of a stack.
    source:         where that number comes from, in words for a user.
    default_layout: of a stack if nothing was measured.
    measurements:   what was measured, one entry per width.
    """

    lanes: int
    source: str
    default_layout: StackLayout
    measurements: tuple[Measurement, ...] = ()

    def layout_at(self, lanes: int) -> StackLayout:
        """The layout of a stack of that many lanes: the fastest one at the nearest measured width."""
        measured = nearest(self.measurements, lanes)
        return self.default_layout if measured is None else measured.layout

    def __str__(self) -> str:
        lanes = counted(self.lanes, "lane")
        return f"at most {lanes} a stack {self.source}, {self.layout_at(self.lanes).memory_format}"


def nearest(measurements: Iterable[Measurement], lanes: int) -> Measurement | None:
    """The measurement of the width that is nearest by ratio; None if there is none."""
    return min(measurements, key=lambda each: abs(math.log(each.lanes / lanes)), default=None)


def measured_widths(measurements: Mapping[int, Measurement], first: int = 1) -> list[Measurement]:
    """The measurements of `first` lanes, twice as many, …, up to the first width that was not measured.

    Args:
        measurements: by width.
    """
    found: list[Measurement] = []
    while (measurement := measurements.get(first * 2 ** len(found))) is not None:
        found.append(measurement)
    return found


def best_width(measurements: Sequence[Measurement]) -> int:
    """The narrowest width whose steps cost at most AS_GOOD times as much per lane as the best."""
    least = min(each.lane_step_s for each in measurements)
    return min(each.lanes for each in measurements if each.lane_step_s <= AS_GOOD * least)


def next_width(measurements: Sequence[Measurement], most: int, least: int = 1, first: int = 1) -> int | None:
    """The width to measure next, or None if no wider stack is worth measuring.

    The width doubles until it reaches `most`. It stops earlier if the last two widths were both worse than
    the best one. A single worse width may be the effect of other programs on the machine.

    Args:
        measurements: of widths that double.
        most:         lanes that a stack of the sweep can have.
        least:        the search does not stop before this width for being worse.
        first:        the width to measure first.
    """
    if not measurements:
        return first
    last = measurements[-1].lanes
    bound = WORSE * min(each.lane_step_s for each in measurements)
    worse = all(each.lane_step_s > bound for each in measurements[-2:])
    return None if last >= most or (worse and last >= least) else 2 * last
