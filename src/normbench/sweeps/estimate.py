"""The estimate of a plan on this machine: the time until the last process ends, and the memory of a stack."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from normbench.sweeps.plan import Plan

if TYPE_CHECKING:
    from normbench.autotune.cost import Cost
    from normbench.autotune.tuner import Tuner

#: Source of costs → how the estimate is known, in words.
_SOURCES = {"measured": "by steps measured here", "ended": "by runs that have ended here"}
#: Units of rough time spans: seconds and name.
_UNITS = ((86_400, "days"), (3600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True)
class Estimate:
    """The time and memory that a plan needs.

    seconds:   until all stacks are trained.
    factor:    the true time is expected between seconds / factor and seconds × factor; 1.0 if all costs are
               known from measurements or from runs that have ended.
    sources:   stacks by source of their cost: measured, ended or guess.
    memory:    bytes of the largest stack.
    processes: stacks that train at the same time.
    """

    seconds: float
    factor: float
    sources: dict[str, int]
    memory: int
    processes: int

    def lines(self) -> list[str]:
        """Two lines of the plan: the time, and the memory."""
        at_once = f", {self.processes} stacks at a time" if self.processes > 1 else ""
        memory = f"about {self.memory / 2**20:,.0f} MiB for the largest stack{at_once}"
        guessed, stacks = self.sources.get("guess", 0), sum(self.sources.values())
        if not guessed:
            how = " and ".join(text for source, text in _SOURCES.items() if source in self.sources)
            return [f"about {duration(self.seconds)}, {how}", memory]
        these = "these runs" if guessed == stacks else f"the runs of {guessed} of {stacks} stacks"
        about = f"about {duration(self.seconds, rough=True)}, within a factor of {self.factor:.2g}"
        return [f"{about}: nothing like {these} has ended here", memory]


def estimate(plan: Plan, tuner: Tuner, processes: int) -> Estimate:
    """Estimate a plan. Trains and measures nothing.

    Args:
        plan:      with at least one stack.
        tuner:     gives the cost of a stack.
        processes: worker processes that a sweep may have.

    Raises:
        InputError: a run cannot be built.
    """
    processes = max(1, min(processes, len(plan.packs)))
    costs = [tuner.cost(pack.specs) for pack in plan.packs]
    memory = max(len(pack.trainings) * tuner.lane_bytes(pack.specs[0]) for pack in plan.packs)
    seconds = last_end([cost.seconds for cost in costs], processes)
    sources = dict(Counter[str](cost.source for cost in costs))
    return Estimate(seconds, _factor(costs, seconds, processes), sources, memory, processes)


def last_end(seconds: Iterable[float], processes: int) -> float:
    """Seconds until the last process ends, if each process takes the next stack as soon as it is free.

    >>> last_end([3.0, 2.0, 2.0], 2)
    4.0
    """
    ends = [0.0] * processes
    for each in seconds:
        heapq.heapreplace(ends, ends[0] + each)
    return max(ends)


def _factor(costs: Sequence[Cost], seconds: float, processes: int) -> float:
    """The factor of the whole plan: all guesses may be too low by their factors, or all may be too high."""
    longest = last_end([cost.seconds * cost.factor for cost in costs], processes)
    shortest = last_end([cost.seconds / cost.factor for cost in costs], processes)
    return max(longest / seconds, seconds / shortest) if shortest > 0 else 1.0


def duration(seconds: float, *, rough: bool = False) -> str:
    """A time span in its two largest units. If `rough`, in one unit with one digit.

    >>> duration(0.2), duration(83.0), duration(11000.0), duration(202000.0)
    ('1 s', '1 min 23 s', '3 h 03 min', '2 days 8 h')
    >>> duration(83.0, rough=True), duration(11000.0, rough=True), duration(1e6, rough=True)
    ('80 s', '3 h', '10 days')
    """
    whole = max(1, round(seconds))
    if rough:
        size, unit = next((size, unit) for size, unit in _UNITS if whole >= 1.5 * size or size == 1)
        return f"{float(f'{whole / size:.1g}'):.0f} {unit}"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    hours, minutes = divmod(round(whole / 60), 60)
    if hours < 48:
        return f"{hours} h {minutes:02} min"
    return f"{hours // 24} days {hours % 24} h"
