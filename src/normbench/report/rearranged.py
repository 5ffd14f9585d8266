"""A part of a table with other keys along its rows and columns. Cells are moved, never pooled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from normbench.report.axes import JOINT, METRIC, Axis
from normbench.report.cells import Cell, Table


def values_along(table: Table, key: str, wanted: Mapping[str, str] | None = None) -> list[str]:
    """The texts of a row or column key, in the order of the table.

    Args:
        wanted: texts by key; only cells with these count.
    """
    place = (*table.rows, *table.cols).index(key)
    return list(dict.fromkeys(parts[place] for _, parts in _places(table, wanted or {})))


def rearranged(table: Table, rows: Sequence[str], cols: Sequence[str], wanted: Mapping[str, str]) -> Table:
    """The cells with the wanted texts, by other row and column keys.

    Keys that are neither in `rows` nor in `cols` must have one text among these cells.

    Args:
        rows, cols: keys of the table.
        wanted:     texts by key; `metric` selects one metric.

    Raises:
        ValueError: two cells would share a place.
    """
    keys = (*table.rows, *table.cols)
    row_parts: dict[str, tuple[str, ...]] = {}
    col_parts: dict[str, tuple[str, ...]] = {}
    cells: dict[tuple[str, str], Cell] = {}
    metric = wanted.get(METRIC, table.metric)
    for place, parts in _places(table, wanted):
        given = dict(zip(keys, parts, strict=True))
        own_row, own_col = tuple(given[key] for key in rows), tuple(given[key] for key in cols)
        row, col = JOINT.join(own_row), JOINT.join(own_col) if cols else metric
        row_parts[row], col_parts[col] = own_row, own_col
        if (row, col) in cells:
            raise ValueError(f"two cells share the place {row} / {col}")
        cells[row, col] = replace(table.cells.get(place, Cell(*place)), row=row, col=col)
    return replace(
        table, metric=metric, row_axis=Axis(tuple(rows), row_parts), col_axis=Axis(tuple(cols), col_parts),
        cells=cells, images={},
    )  # fmt: skip


def _places(table: Table, wanted: Mapping[str, str]) -> list[tuple[tuple[str, str], tuple[str, ...]]]:
    """Row and column label of every place with the wanted texts, and its text per key."""
    keys = (*table.rows, *table.cols)
    every = [((row, col), table.parts(row, col)) for row in table.row_labels for col in table.col_labels]
    return [
        (place, parts)
        for place, parts in every
        if all(parts[keys.index(key)] == text for key, text in wanted.items() if key in keys)
    ]
