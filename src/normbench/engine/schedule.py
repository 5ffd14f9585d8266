"""Learning-rate schedules, as factors of the run's learning rate."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

from normbench.errors import unknown
from normbench.spec import ScheduleSpec

NAMES = ("constant", "step", "cosine", "plateau")
#: A share may exceed a whole step by this many steps and still mean that step: 0.6666666666666667 of 300
#: steps is step 200.
TOLERANCE = Fraction(1, 10**9)


def multiplier(schedule: ScheduleSpec, step: int, steps: int) -> float:
    """The factor of the learning rate at a step.

    Args:
        schedule: its name and numbers. Warm-up, if any, rises linearly to 1 over the first `warmup` of the
                  run, rounded to whole steps; the schedule covers the rest. A milestone takes effect at the
                  first step at or after its share of the run. For `plateau` this is the warm-up alone; each
                  lane has a further factor, see `engine.plateau`.
        step:     0 … steps − 1, the optimiser step about to be taken.
        steps:    length of the run.

    Raises:
        InputError: an unknown schedule; the nearest names are offered.

    Reference: loshchilov2017 (cosine, without restarts); goyal2017 (gradual warm-up).
    """
    warm = round(schedule.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    if schedule.name in ("constant", "plateau"):
        return 1.0
    if schedule.name == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    if schedule.name == "step":
        passed = sum(step >= first_step(share, steps) for share in schedule.milestones or ())
        return float((schedule.gamma or 1.0) ** passed)
    raise unknown("schedule", schedule.name, NAMES)


@lru_cache
def first_step(share: float, steps: int) -> int:
    """The first step at or after a share of a run, in exact arithmetic on the decimal digits of the share.

    >>> first_step(0.07, 100), 0.07 * 100
    (7, 7.000000000000001)
    """
    return math.ceil(Fraction(str(share)) * steps - TOLERANCE)
