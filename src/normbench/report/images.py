"""The column "images per statistic" of a table, if that number is not the images of a step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from normbench.labels import MISSING, field
from normbench.record import Record
from normbench.report.cells import Table

#: Head of the column.
IMAGES = "images per statistic"


def with_images(table: Table, records: Sequence[Record]) -> Table:
    """The table with the images per statistic of every row; unchanged if `batch` is one of its keys.

    The column is there if a run that is shown has a total that is not its batch: several simulated workers.

    Args:
        records: those of the table, in any order; others may be among them.
    """
    specs = {record.signature: record.spec for record in records}
    shown = {row: [specs[run] for run in _runs(table, row) if run in specs] for row in table.row_labels}
    every = [spec for row in shown.values() for spec in row]
    if "batch" in (*table.rows, *table.cols) or all(field(spec, "total") == spec["batch"] for spec in every):
        return table
    return replace(table, images={row: _text(row_specs) for row, row_specs in shown.items()})


def _runs(table: Table, row: str) -> Iterable[str]:
    return (run for col in table.col_labels if (cell := table.cells.get((row, col))) for run in cell.runs)


def _text(specs: Sequence[Mapping[str, int]]) -> str:
    return ", ".join(map(str, sorted({spec["batch"] for spec in specs}))) or MISSING
