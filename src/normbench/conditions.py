"""Ways of evaluating one final state, and the names of the results.

A name is the quantity, then `/corruption:severity` if the test images were corrupted, then `@source` if the
statistics are not the running ones: `test_error/contrast:3@adapt`.
"""

from __future__ import annotations

from typing import NamedTuple

from normbench.corruptions import Corruption
from normbench.sources import RUNNING, Source

#: What `eval.metrics` may name, beside loss and error. Each has a definition in `engine.quality`.
NUMBERS = ("nll", "ece", "temperature")
#: Those that are arrays. They are kept as tables, not as metrics.
TABLES = ("reliability", "confusion", "class_error")
ALWAYS = ("loss", "error")


class Condition(NamedTuple):
    """Where statistics come from, and what was done to the test images; None: nothing."""

    source: Source = RUNNING
    corruption: Corruption | None = None

    @property
    def suffix(self) -> str:
        """What the names of its results end with.

        >>> Condition(Source("adapt"), Corruption("contrast", 3)).suffix
        '/contrast:3@adapt'
        """
        return ("" if self.corruption is None else f"/{self.corruption}") + self.source.suffix

    def names(self, metrics: tuple[str, ...] = (), splits: tuple[str, ...] = ("test",)) -> list[str]:
        """Names of its results, tables included."""
        return [f"{split}_{name}{self.suffix}" for split in splits for name in (*ALWAYS, *metrics)]


def quantity(metric: str) -> str:
    """A metric's name without corruption and source.

    >>> quantity("test_error/contrast:3@adapt"), quantity("train_s")
    ('test_error', 'train_s')
    """
    return metric.partition("@")[0].partition("/")[0]
