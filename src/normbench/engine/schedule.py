"""Learning-rate schedules as a multiplier of the run's learning rate."""

from __future__ import annotations

import math

from normbench.errors import unknown
from normbench.spec import ScheduleSpec

NAMES = ("constant", "step", "cosine")


def multiplier(schedule: ScheduleSpec, step: int, steps: int) -> float:
    """Share of the learning rate in force at a step.

    Args:
        step:  0 … steps − 1, the optimiser step about to be taken.
        steps: length of the run. Warm-up rises linearly to 1 over its share of it and the schedule fills the
               rest.

    Reference: loshchilov2017 (cosine, without restarts); goyal2017 (gradual warm-up).
    """
    warm = round(schedule.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    if schedule.name == "constant":
        return 1.0
    if schedule.name == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    if schedule.name == "step":
        passed = sum(step >= milestone * steps for milestone in schedule.milestones or ())
        return float((schedule.gamma or 1.0) ** passed)
    raise unknown("schedule", schedule.name, NAMES)
