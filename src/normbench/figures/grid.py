"""A table as series of cells for `line` and `bars`, and what the small print says about lost runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from normbench.report.cells import Cell, Table
from normbench.report.metrics import ENSEMBLE
from normbench.report.table_layout import IMPOSSIBLE, remarks_on

#: Cells with lost runs that the small print names; of more it gives the count.
_NAMED = 6


class Series(NamedTuple):
    """Cells along the x axis. A cell that has nothing to show is empty, with no run."""

    label: str
    cells: tuple[Cell, ...]


class Grid(NamedTuple):
    """The series of a table: its rows, along its columns. Without columns, one series along its rows."""

    x: str
    labels: tuple[str, ...]
    hue: str
    series: tuple[Series, ...]


def grid(table: Table) -> Grid:
    """The series of a table, in the order of its rows."""
    found = [
        [table.cells.get((row, col), Cell(row, col)) for col in table.col_labels] for row in table.row_labels
    ]
    if not table.cols:
        series = (Series("", tuple(cell for [cell] in found)),)
        return Grid(", ".join(table.rows), table.row_labels, "", series)
    lines = tuple(
        Series(row, tuple(cells))
        for row, cells in zip(table.row_labels, found, strict=True)
        if any((row, col) in table.cells for col in table.col_labels)
    )
    return Grid(", ".join(table.cols), table.col_labels, ", ".join(table.rows), lines)


def lost(cell: Cell) -> str:
    """What a cell lost, in words; empty if every run that was asked for has a value.

    A cell for which no run was asked has lost nothing.
    """
    if remarks := remarks_on(cell):
        return ", ".join(remarks)
    return IMPOSSIBLE if cell.impossible and not cell.asked else ""


def lost_notes(places: Iterable[tuple[str, str]]) -> list[str]:
    """A line that names what was lost.

    Args:
        places: names of cells, each with what it lost; empty if nothing.
    """
    named = [f"{name}: {what}" for name, what in places if what]
    if not named:
        return []
    more = len(named) - _NAMED
    return ["; ".join(named[:_NAMED]) + (f"; and {more} more cells" if more > 0 else "") + "."]


def notes(table: Table, found: Grid, extra: Sequence[str] = (), shown: str = "Mean ± sd") -> list[str]:
    """The small print of a figure of a table: seeds of what is drawn, what marks mean, lost runs.

    Args:
        extra: lines on marks.
        shown: what is drawn of several runs.
    """
    drawn = [cell for series in found.series for cell in series.cells]
    first = table.notes[:1] if table.metric in ENSEMBLE else [_seeds(drawn, shown)]
    places = [
        (f"{each.label} at {label}" if each.label else label, lost(cell))
        for each in found.series
        for label, cell in zip(found.labels, each.cells, strict=True)
    ]
    return [*first, *extra, *lost_notes(places)]


def _seeds(cells: Sequence[Cell], shown: str) -> str:
    """How many seeds the drawn means have: a range, because a figure shows no number per cell."""
    counts = sorted({cell.summary.n for cell in cells if cell.summary.n})
    if not counts:
        return "No cell has a value."
    if counts == [1]:
        return "One seed per cell: a spread cannot be given."
    noun = "runs" if any(cell.by_seed() is None for cell in cells) else "seeds"
    return f"{shown} over n = {' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} {noun}."
