"""A table and its cells as values; making them is `tables`, drawing them is `render` and `terminal`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from normbench.report.stats import EMPTY, Summary


@dataclass(frozen=True)
class Cell:
    """The runs of one row and column. `runs`, `seeds` and `values` run in parallel, sorted by seed.

    `diverged` and `failed` count runs that broke; `without` counts complete runs whose metric is null, such
    as `steps_to_<target>` where the target was never met.
    """

    row: str
    col: str
    runs: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    summary: Summary = EMPTY
    published: float | None = None
    diverged: int = 0
    failed: int = 0
    without: int = 0
    best: bool = False

    @property
    def asked(self) -> int:
        """All runs of the cell, with a value or not."""
        return len(self.values) + self.diverged + self.failed + self.without

    def by_seed(self) -> dict[int, float] | None:
        """The values by their seed; None where a seed occurs twice, so that nothing can be paired."""
        pairs = dict(zip(self.seeds, self.values, strict=True))
        return pairs if len(pairs) == len(self.values) else None

    def to_json(self) -> dict[str, Any]:
        n, mean, sd, ci95 = self.summary
        return {
            "row": self.row,
            "col": self.col,
            "mean": mean,
            "sd": sd,
            "ci95": list(ci95) if ci95 else None,
            "n": n,
            "values": list(self.values),
            "runs": list(self.runs),
            "published": self.published,
            "diverged": self.diverged,
            "failed": self.failed,
            "without": self.without,
            "best": self.best,
        }


@dataclass(frozen=True)
class Table:
    """Cells by row and column label, and what a reader must be told about them.

    `rows` and `cols` are the spec keys of the axes, `row_labels` and `col_labels` what stands along them.
    `cells` holds those that have a run or a published number, row by row.
    """

    metric: str
    rows: tuple[str, ...]
    cols: tuple[str, ...]
    row_labels: tuple[str, ...]
    col_labels: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def usual_n(self) -> int:
        """The number of values that most cells have; the larger one where two are equally common."""
        counts = Counter(cell.summary.n for cell in self.cells.values() if cell.summary.n)
        return max(counts, key=lambda n: (counts[n], n), default=0)

    def to_json(self) -> dict[str, Any]:
        """The plain containers of `table --format json`; metrics are fractions."""
        return {
            "metric": self.metric,
            "rows": list(self.rows),
            "cols": list(self.cols),
            "cells": [cell.to_json() for cell in self.cells.values()],
            "warnings": list(self.warnings),
            "notes": list(self.notes),
        }
