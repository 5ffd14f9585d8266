"""The runs of a page as rows, and the values that filters offer."""

from __future__ import annotations

from dataclasses import dataclass

from normbench.labels import label
from normbench.pages.cells_view import anchors, groups
from normbench.pages.names import anchor, runs_file
from normbench.pages.page import Page
from normbench.record import Record
from normbench.report.axes import METRIC, parts
from normbench.report.metrics import measured
from normbench.report.text import natural

#: Keys that runs can be filtered by, beside those of the table.
FILTERED = ("norm", "model", "batch")
#: Digits shown of a signature; enough for `normbench info`.
DIGITS = 8
#: Values that a filter offers at most.
_OFFERED = 100


@dataclass(frozen=True)
class RunRow:
    """A run. `cell` is the anchor of its cell, for the first run there; `texts` are in the columns' order."""

    cell: str
    name: str
    link: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class RunTable:
    """The runs of a page.

    columns: names of the columns behind the name of the run.
    filters: place of a column, its name, and its values.
    """

    columns: tuple[str, ...]
    rows: tuple[RunRow, ...]
    filters: tuple[tuple[int, str, tuple[str, ...]], ...]


def run_table(page: Page) -> RunTable:
    """The runs, those of a cell beside each other, in the order of the table."""
    keys = [key for key in (*page.table.rows, *page.table.cols) if key != METRIC]
    keys = list(dict.fromkeys([*keys, *FILTERED]))
    columns = (*keys, "seed", "status", *page.table.metrics)
    known = anchors(page)
    rows = []
    for group, places in groups(page).items():
        for i, place in enumerate(places):
            record = page.records[place]
            texts = (*parts(record, keys, page.knobs), str(record.spec["seed"]), record.status,
                     *(_number(record, metric) for metric in page.table.metrics))  # fmt: skip
            link = f"{runs_file(record.signature)}#{anchor(record.signature)}"
            rows.append(RunRow(known[group] if i == 0 else "", record.signature[:DIGITS], link, texts))
    filters = []
    for place, name in enumerate((*keys, "seed", "status")):
        values = sorted({row.texts[place] for row in rows}, key=natural)
        if name != "seed" and 1 < len(values) <= _OFFERED:
            filters.append((place, name, tuple(values)))
    return RunTable(columns, tuple(rows), tuple(filters))


def _number(record: Record, metric: str) -> str:
    value = measured(record, metric)
    return label(None) if value is None else f"{value:.4g}"
