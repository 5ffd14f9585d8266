"""Timing of training steps."""

from __future__ import annotations

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
