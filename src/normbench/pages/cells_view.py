"""The table of a page as rows for its template: numbers, published numbers, and links to the runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from normbench.pages.page import Page
from normbench.report.axes import METRIC, parts
from normbench.report.cells import Table
from normbench.report.table_layout import Text, lines


@dataclass(frozen=True)
class CellView:
    """A cell. `link` is the anchor of its first run, empty without runs; `value` sorts it."""

    text: Text
    link: str = ""
    value: float | None = None
    runs: int = 0


@dataclass(frozen=True)
class LineView:
    """A line of a table; published numbers have a line below ours."""

    label: str
    published: bool
    cells: tuple[CellView, ...]
    images: str = ""


@dataclass(frozen=True)
class RowView:
    """A row with its lines. `keys` holds the values of the row keys as JSON, for the filters."""

    keys: str
    lines: tuple[LineView, ...]


def group_of(table: Table, row: str, col: str) -> tuple[str, ...]:
    """What the runs of a cell share: its texts without the metric."""
    keys = (*table.rows, *table.cols)
    return tuple(text for key, text in zip(keys, table.parts(row, col), strict=True) if key != METRIC)


def groups(page: Page) -> dict[tuple[str, ...], list[int]]:
    """The places of the runs of every cell in `page.records`, in the order of the table."""
    table = page.table
    keys = [key for key in (*table.rows, *table.cols) if key != METRIC]
    found: dict[tuple[str, ...], list[int]] = {
        group_of(table, row, col): [] for row in table.row_labels for col in table.col_labels
    }
    for place, record in enumerate(page.records):
        found.setdefault(parts(record, keys, page.knobs), []).append(place)
    return found


def anchors(page: Page) -> dict[tuple[str, ...], str]:
    """The anchor of every cell that has runs."""
    return {group: f"cell-{i}" for i, (group, runs) in enumerate(groups(page).items()) if runs}


def rows_of(page: Page) -> list[RowView]:
    """The body of the table."""
    table, found, counts = page.table, anchors(page), {g: len(r) for g, r in groups(page).items()}
    rows: list[RowView] = []
    labels = iter(table.row_labels)
    row = ""
    for line in lines(table):
        if not line.published:
            row = next(labels)
            rows.append(RowView(_keys(table.rows, table.row_axis.parts[row]), ()))
        views = []
        for col, text in zip(table.col_labels, line.texts, strict=True):
            group, cell = group_of(table, row, col), table.cells.get((row, col))
            if line.published or cell is None:
                views.append(CellView(text))
            else:
                views.append(CellView(text, found.get(group, ""), cell.summary.mean, counts.get(group, 0)))
        last = rows[-1]
        rows[-1] = RowView(
            last.keys, (*last.lines, LineView(line.label, line.published, tuple(views), line.images))
        )
    return rows


def columns_of(table: Table) -> list[tuple[str, str]]:
    """The label of every column, and the values of the column keys as JSON."""
    return [(label, _keys(table.cols, table.col_axis.parts[label])) for label in table.col_labels]


def _keys(keys: tuple[str, ...], texts: tuple[str, ...]) -> str:
    given: Mapping[str, str] = {key: text for key, text in zip(keys, texts, strict=False) if key != METRIC}
    return json.dumps(given, ensure_ascii=False)
