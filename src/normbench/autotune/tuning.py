"""How many lanes a stack should have: what was measured, and what follows from it.

Stacks of 1, 2, 4, … lanes are measured until wider ones stop being faster.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from normbench.engine.stack_layout import StackLayout

#: What a step of a lane may cost more than in the best stack: fewer lanes that do as well are as good, and
#: beyond that more lanes do harm.
AS_GOOD, WORSE = 1.03, 1.05


@dataclass(frozen=True)
class Measurement:
    """Steps of a stack on this machine: seconds of one step by lane, and bytes of the whole stack."""

    lanes: int
    form: StackLayout
    seconds: float
    bytes: int


@dataclass(frozen=True)
class Tuning:
    """How runs of a kind are packed.

    lanes:  the most of a stack.
    source: where that number comes from, in words.
    form:   of stacks where nothing was measured.
    trials: what was measured.
    """

    lanes: int
    source: str
    form: StackLayout
    trials: tuple[Measurement, ...] = ()

    def at(self, lanes: int) -> StackLayout:
        """The form of a stack of so many lanes: that which was best with about as many."""
        nearest = min(self.trials, key=lambda t: abs(math.log(t.lanes / lanes)), default=None)
        return self.form if nearest is None else nearest.form

    def __str__(self) -> str:
        lanes = f"at most {self.lanes} lane{'s' * (self.lanes > 1)} a stack {self.source}"
        return f"{lanes}, {self.at(self.lanes).layout}"


def measured_widths(trials: Mapping[int, Measurement]) -> list[Measurement]:
    """What is known of 1, 2, 4, … lanes, without a gap."""
    found: list[Measurement] = []
    while (trial := trials.get(2 ** len(found))) is not None:
        found.append(trial)
    return found


def best_width(trials: Sequence[Measurement]) -> int:
    """The fewest lanes whose steps are as good as the best."""
    least = min(trial.seconds for trial in trials)
    return min(trial.lanes for trial in trials if trial.seconds <= AS_GOOD * least)


def next_width(trials: Sequence[Measurement], most: int, least: int = 1) -> int | None:
    """How many lanes to try after 1, 2, 4, …: twice as many, until there are `most` or, from `least` on, the
    steps were worse twice in a row, for once may be a neighbour's doing; None then.
    """
    if not trials:
        return 1
    last = trials[-1].lanes
    bound = WORSE * min(trial.seconds for trial in trials)
    worse = all(trial.seconds > bound for trial in trials[-2:])
    return None if last >= most or (worse and last >= least) else 2 * last
