"""Ranks: the processes of `torchrun` that train each stack together.

torchrun starts W processes and tells each its number in the environment. In a step, rank r holds the r-th
part of the workers. The part that a call holds is known here, because dropout masks, noise and synchronized
statistics depend on it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those that train together.

    Attributes:
        number:  0 … count − 1. Rank 0 plans, prints, evaluates and writes.
        count:   W, all processes.
        local:   number of this process on its machine.
        beside:  processes on this machine.
    """

    number: int = 0
    count: int = 1
    local: int = 0
    beside: int = 1

    def part(self, images: int) -> slice:
        """The images of a step that this rank holds, of so many; W divides them."""
        each = images // self.count
        return slice(self.number * each, (self.number + 1) * each)


ALONE = Ranks()


def launched(environment: Mapping[str, str] = os.environ) -> Ranks:
    """The ranks that torchrun has started; `ALONE` without torchrun.

    Other launchers set RANK and WORLD_SIZE too, for jobs that know nothing of each other. So torchrun's own
    variable decides.
    """
    if "TORCHELASTIC_RUN_ID" not in environment:
        return ALONE
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return Ranks(*(int(environment[name]) for name in names))


_held: Ranks | None = None


def held() -> Ranks | None:
    """Whose part of a step the present calls compute; None if nobody said."""
    return _held


def part_number() -> int:
    """The number of the part of a step that the present calls compute: 0 for whole steps."""
    return 0 if _held is None else _held.number


@contextmanager
def holding(ranks: Ranks) -> Iterator[None]:
    """In this context, calls compute the part of these ranks; `ALONE`: whole steps, without the others."""
    global _held
    before, _held = _held, ranks
    try:
        yield
    finally:
        _held = before
