"""How many runs a sweep has, counted before the product of its values is built. Many need a confirmation.

`seed=range(100000)` is written in a moment, but composing it takes minutes and gigabytes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from decimal import Decimal

from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep
from omegaconf import DictConfig

from normbench.errors import InputError

KEY = "confirm_above"
DEFAULT = 2000


def count(overrides: Sequence[Override]) -> int:
    """The product of the numbers of values. Of two words with one key, the last one counts.

    Raises:
        InputError: a range that is not finite.
    """
    return math.prod({override.get_key_element(): _values(override) for override in overrides}.values())


def limit(overrides: Sequence[Override], config: DictConfig | None = None) -> int:
    """The number of runs above which a sweep has to be confirmed: that of the words, else of the files.

    Raises:
        InputError: it is no whole number ≥ 1.
    """
    given = DEFAULT if config is None else config.get(KEY, DEFAULT)
    for override in overrides:
        if override.key_or_group == KEY:
            given = override.value() if not override.is_sweep_override() else override.input_line
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise InputError(f"{KEY} must be a whole number ≥ 1; got {given!r}")
    return given


class Confirmation:
    """Asks once per command, on a terminal, whether a sweep above the limit is meant.

    Args:
        limit: number of runs that need no confirmation.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def check(self, runs: int) -> None:
        """Return if there are few runs, or if the user says yes.

        Raises:
            InputError: there are more runs, and no terminal to ask on or another answer.
        """
        if runs <= self._limit:
            return
        said = f"the sweep has {runs:,} runs, more than {KEY}={self._limit}"
        if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
            raise InputError(f"{said}; if that is meant, add {KEY}={runs}")
        print(f"{said}; go on? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise InputError(f"{said}; nothing was done")
        self._limit = runs


def _values(override: Override) -> int:
    value = override.value()
    if isinstance(value, ChoiceSweep):
        return len(value.list)
    if isinstance(value, RangeSweep):
        return _length(value, override)
    return 1  # a glob matches at most the files of a folder


def _length(sweep: RangeSweep, override: Override) -> int:
    numbers = [sweep.start, sweep.stop, 1 if sweep.step is None else sweep.step]
    if not all(isinstance(each, int | float) and math.isfinite(each) for each in numbers) or not numbers[2]:
        raise InputError(f"a range needs finite numbers and a step that is not 0; got {override.input_line}")
    start, stop, step = (Decimal(str(each)) for each in numbers)
    return max(0, math.ceil((stop - start) / step))
