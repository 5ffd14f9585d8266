"""The most seeds of a cell, if seeds are added until claims are decided."""

from __future__ import annotations

from normbench.errors import InputError

MAX_SEEDS = 30


def most_seeds(until_decided: bool, given: int | None) -> int | None:
    """The most seeds of a cell; None if no seeds are added.

    Args:
        given: the value of --max-seeds.

    Raises:
        InputError: --max-seeds without --until-decided, or fewer than 2.
    """
    if given is not None and not until_decided:
        raise InputError("--max-seeds needs --until-decided; add it, or set seeds with seed=range(10)")
    if given is not None and given < 2:
        raise InputError(f"--max-seeds must be at least 2; got {given}")
    return (given or MAX_SEEDS) if until_decided else None
