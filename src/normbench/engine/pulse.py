"""Pulse: what a training loop shows to other threads, and what they may ask of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(eq=False)
class Pulse:
    """Plain fields that the loop reads or writes once per step, which takes less than 0.1 µs.

    step:     number of finished steps.
    stepping: whether the loop takes steps, so that the next one is due after about as long as the last one.
              False before the first step and while the loop evaluates.
    wanted:   set by another thread: offer the states of the runs after the present step.
    """

    step: int = 0
    stepping: bool = False
    wanted: bool = False
