"""Runs of a table that are not there: asked for and without a record, or impossible."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from normbench.papers.description import Scale
from normbench.record import Record
from normbench.report.axes import METRIC, parts
from normbench.report.cells import Cell, Table
from normbench.report.missing import line

#: A cell by its texts, in the order of the keys of a scale.
Texts = tuple[str, ...]


def with_lost_runs(
    table: Table,
    scale: Scale,
    records: Sequence[Record],
    asked: Mapping[Texts, Collection[int]],
    impossible: Mapping[Texts, str],
) -> Table:
    """The table with the number of missing runs in every cell, a warning that names them, and n/a cells.

    Args:
        records:    of its runs; with arms, as `layout.labelled` makes them.
        asked:      the seeds of every cell that should have runs.
        impossible: why a cell can have no runs.
    """
    there: dict[Texts, set[int]] = {}
    for record in records:
        there.setdefault(parts(record, scale.keys), set()).add(record.spec["seed"])
    gone = {texts: why for texts, why in impossible.items() if texts not in there}
    lacking = {
        texts: lost
        for texts, seeds in asked.items()
        if texts not in gone and (lost := sorted({*seeds} - there.get(texts, set())))
    }
    named = {
        " ".join(f"{key}={text}" for key, text in zip(scale.keys, texts, strict=True)): seeds
        for texts, seeds in lacking.items()
    }
    wanted = sum(len({*seeds}) for texts, seeds in asked.items() if texts not in gone)
    table = table.with_impossible({place: gone[t] for place, t in places_of(table).items() if t in gone})
    return replace(table, cells=_counted(table, lacking), warnings=(*table.warnings, *line(named, wanted)))


def _counted(table: Table, lacking: Mapping[Texts, Collection[int]]) -> dict[tuple[str, str], Cell]:
    """The cells with their number of missing runs, row by row."""
    cells: dict[tuple[str, str], Cell] = {}
    for place, texts in places_of(table).items():
        if texts in lacking:
            cells[place] = replace(table.cells.get(place, Cell(*place)), missing=len(lacking[texts]))
        elif place in table.cells:
            cells[place] = table.cells[place]
    return cells


def places_of(table: Table) -> dict[tuple[str, str], Texts]:
    """The texts of every place without its metric, row by row."""
    keys = (*table.rows, *table.cols)
    return {
        (row, col): tuple(t for key, t in zip(keys, table.parts(row, col), strict=True) if key != METRIC)
        for row in table.row_labels
        for col in table.col_labels
    }
