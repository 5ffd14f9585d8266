"""Steps against the clock."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def timed(
    step: Callable[[int], object], first: int, seconds: float, device: torch.device
) -> tuple[int, float]:
    """Take steps from number `first` on for about so many seconds, at least one.

    A GPU works on after a call has returned, so it is waited for at the start and the end. In between it is
    seldom asked how much time is left: as often as the number of steps has doubled.

    Returns:
        How many steps were taken, and how long they took.
    """
    done, passed = 0, 0.0
    began = _now(device)
    while not done or passed < seconds:
        more = min(done, int((seconds - passed) / passed * done)) if done else 1
        for number in range(first + done, first + done + max(1, more)):
            step(number)
        done += max(1, more)
        passed = _now(device) - began
    return done, passed


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
