"""A table and its cells as values. `tables` makes them, `render` and `terminal` draw them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from normbench.report.axes import METRIC, Axis
from normbench.report.metrics import NumberFormat, number_format
from normbench.report.picking import Picks
from normbench.report.stats import EMPTY, Summary
from normbench.visible import visible

Place = tuple[str, str]


class Difference(NamedTuple):
    """Cell minus baseline over shared seeds: number of pairs, mean, 95 % interval of the mean."""

    n: int
    mean: float
    ci95: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        return {"n": self.n, "mean": self.mean, "ci95": list(self.ci95) if self.ci95 else None}


@dataclass(frozen=True)
class Cell:
    """The runs of one row and column. `runs`, `seeds` and `values` have the same order, that of the seeds.

    `diverged` and `failed` count runs that broke. `without` counts complete runs without a value, such as
    `steps_to_<target>` if the target was never met. `missing` counts runs that were asked for and have no
    record. `impossible` says why the cell can have no runs. `trust` says how a published number came here
    (`TRUSTS`), and `mark` what stands behind it. `difference` is that from the baseline, if there is one.
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
    impossible: str = ""
    trust: str = ""
    mark: str = ""
    missing: int = 0
    difference: Difference | None = None

    @property
    def asked(self) -> int:
        """All recorded runs of the cell, with a value or not."""
        return len(self.values) + self.diverged + self.failed + self.without

    def by_seed(self) -> dict[int, float] | None:
        """The values by their seed; None if a seed occurs twice, so that nothing can be paired."""
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
            **({"published_trust": self.trust} if self.trust else {}),
            **({"impossible": self.impossible} if self.impossible else {}),
            **({"missing": self.missing} if self.missing else {}),
            **({"difference": self.difference.to_json()} if self.difference else {}),
        }


@dataclass(frozen=True)
class Table:
    """Cells by row and column label, and what a reader must be told about them.

    `cells` holds those that have a run or a published number, row by row. If `metric` is a row or column key,
    every line shows a metric of its own, and the field `metric` lists them with commas. `baseline` is the
    value of a key from which cells have differences; empty if they have none. `images` has the images per
    statistic by row label; empty if the table has no such column.
    """

    metric: str
    row_axis: Axis
    col_axis: Axis
    cells: Mapping[tuple[str, str], Cell] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    picks: Picks = field(default_factory=Picks)
    baseline: str = ""
    images: Mapping[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> tuple[str, ...]:
        """The keys of the rows."""
        return self.row_axis.keys

    @property
    def cols(self) -> tuple[str, ...]:
        """The keys of the columns; empty if the metric is the one column."""
        return self.col_axis.keys

    @property
    def row_labels(self) -> tuple[str, ...]:
        return self.row_axis.labels

    @property
    def col_labels(self) -> tuple[str, ...]:
        return self.col_axis.labels

    def parts(self, row: str, col: str) -> tuple[str, ...]:
        """The labels of a cell, one text per key: those of the rows, then those of the columns."""
        return (*self.row_axis.parts[row], *self.col_axis.parts[col])

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that the table shows."""
        return tuple(self.metric.split(",")) if METRIC in (*self.rows, *self.cols) else (self.metric,)

    def metric_at(self, row: str, col: str) -> str:
        """The metric of a cell."""
        keys = (*self.rows, *self.cols)
        return self.parts(row, col)[keys.index(METRIC)] if METRIC in keys else self.metric

    def formats(self) -> dict[str, NumberFormat]:
        """How each metric is written, the same in all of its cells."""
        found: dict[str, list[Cell]] = {metric: [] for metric in self.metrics}
        for (row, col), cell in self.cells.items():
            found.setdefault(self.metric_at(row, col), []).append(cell)
        return {
            metric: number_format(
                metric,
                [value for cell in cells for value in cell.values],
                [cell.summary.mean for cell in cells if cell.summary.mean is not None],
            )
            for metric, cells in found.items()
        }

    @property
    def number_format(self) -> NumberFormat:
        """How the metric is written; of the first one, if the table has several."""
        return self.formats()[self.metrics[0]]

    def with_impossible(self, reasons: Mapping[tuple[str, str], str]) -> Table:
        """The table with cells that say n/a because they can have no runs.

        Args:
            reasons: by row and column label; a cell that has runs is left as it is.
        """
        if not reasons:
            return self
        cells: dict[tuple[str, str], Cell] = {}
        for place in ((row, col) for row in self.row_labels for col in self.col_labels):
            cell = self.cells.get(place, Cell(*place) if place in reasons else None)
            if cell is not None:
                lacking = place in reasons and not cell.asked
                cells[place] = replace(cell, impossible=reasons[place]) if lacking else cell
        by_reason: dict[str, list[str]] = {}
        for place, reason in reasons.items():
            if cells[place].impossible:
                by_reason.setdefault(reason, []).append(" / ".join(place))
        notes = (f"n/a in {', '.join(places)}: {visible(why)}" for why, places in by_reason.items())
        return replace(self, cells=cells, notes=(*self.notes, *notes))

    @property
    def typical_n(self) -> int:
        """The number of values that most cells have; the larger one if two are equally common."""
        counts = Counter(cell.summary.n for cell in self.cells.values() if cell.summary.n)
        return max(counts, key=lambda n: (counts[n], n), default=0)

    def to_json(self) -> dict[str, Any]:
        """The plain containers of `table --format json`; metrics are fractions."""
        cells = [cell.to_json() for cell in self.cells.values()]
        select = {}
        if self.picks.keys:
            select = {"select": {"keys": list(self.picks.keys), "metric": self.picks.metric}}
            cells = [cell | self.picks.to_json(place) for place, cell in zip(self.cells, cells, strict=True)]
        return {
            "metric": self.metric,
            "rows": list(self.rows),
            "cols": list(self.cols),
            **select,
            **({"baseline": self.baseline} if self.baseline else {}),
            **({"images_per_statistic": dict(self.images)} if self.images else {}),
            "cells": cells,
            "warnings": list(self.warnings),
            "notes": list(self.notes),
        }
