"""Learning-rate schedules, as factors of the run's learning rate."""

from __future__ import annotations

import math

from normbench.errors import unknown
from normbench.spec import ScheduleSpec

NAMES = ("constant", "step", "cosine")


def multiplier(schedule: ScheduleSpec, step: int, steps: int) -> float:
    """The factor of the learning rate at a step, in (0, 1].

    Args:
        schedule: its name and numbers. Warm-up, if any, rises linearly to 1 over the first `warmup` of the
                  run; the schedule covers the rest.
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
    if schedule.name == "constant":
        return 1.0
    if schedule.name == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    if schedule.name == "step":
        passed = sum(step >= milestone * steps for milestone in schedule.milestones or ())
        return float((schedule.gamma or 1.0) ** passed)
    raise unknown("schedule", schedule.name, NAMES)
