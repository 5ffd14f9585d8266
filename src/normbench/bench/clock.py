"""Timing of training steps."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from normbench.instruments import now


def timed(
    step: Callable[[int], object], first: int, seconds: float, device: torch.device
) -> tuple[int, float]:
    """Take steps for about the given time, at least one.

    The clock is read only when the number of steps has doubled, because reading it waits for the GPU.

    Args:
        step:    takes the step of a given number.
        first:   number of the first step.
        seconds: how long to go on.
        device:  that the steps run on.

    Returns:
        How many steps were taken, and how many seconds they took.
    """
    done, passed = 0, 0.0
    began = now(device)
    while not done or passed < seconds:
        more = min(done, int((seconds - passed) / passed * done)) if done else 1
        for number in range(first + done, first + done + max(1, more)):
            step(number)
        done += max(1, more)
        passed = now(device) - began
    return done, passed


def host_seconds(step: Callable[[int], object], first: int, steps: int, device: torch.device) -> float:
    """Seconds until the call of a step returns, without waiting for a GPU. On a CPU: seconds of the step.

    Args:
        step:   takes the step of a given number.
        first:  number of the first step.
        steps:  how many are taken.
        device: that the steps run on; it has nothing to do when the first step begins.
    """
    now(device)
    began = time.perf_counter()
    for number in range(first, first + steps):
        step(number)
    passed = time.perf_counter() - began
    now(device)
    return passed / steps
