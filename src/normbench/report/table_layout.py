"""A table as lines of short texts, the same for every format: rounded numbers and remarks in words."""

from __future__ import annotations

from typing import NamedTuple

from normbench.labels import MISSING
from normbench.report.cells import Cell, Table
from normbench.report.metrics import NumberFormat

#: What stands in a cell that can have no runs.
IMPOSSIBLE = "n/a"


class Text(NamedTuple):
    """A cell in words: the mean, "± sd", and a remark on its runs. Parts that do not apply are empty."""

    mean: str
    spread: str = ""
    remark: str = ""
    best: bool = False


class Line(NamedTuple):
    """One line under the header. Published numbers have a line below that of our own runs."""

    label: str
    published: bool
    texts: tuple[Text, ...]


def caption(table: Table) -> str:
    """What the numbers are: `test_error (%)`."""
    formats = table.formats()
    units = ((metric, formats[metric].unit) for metric in table.metrics)
    return ", ".join(f"{metric} ({unit})" if unit else metric for metric, unit in units)


def corner(table: Table) -> str:
    """What stands along the axes: `norm / batch`."""
    return " / ".join(part for part in (", ".join(table.rows), ", ".join(table.cols)) if part)


def lines(table: Table) -> list[Line]:
    """The body of a table; a row with published numbers has them on a line of their own."""
    formats = table.formats()
    typical_n = table.typical_n
    body = []
    for row in table.row_labels:
        cells = [table.cells.get((row, col)) for col in table.col_labels]
        numbers = [formats[table.metric_at(row, col)] for col in table.col_labels]
        texts = (_text(cell, table, form, typical_n) for cell, form in zip(cells, numbers, strict=True))
        body.append(Line(row, False, tuple(texts)))
        if any(cell is not None and cell.published is not None for cell in cells):
            published = (_published(cell, form) for cell, form in zip(cells, numbers, strict=True))
            body.append(Line("published", True, tuple(published)))
    return body


def _published(cell: Cell | None, numbers: NumberFormat) -> Text:
    """A published number with its mark, if it has one."""
    if cell is None or cell.published is None:
        return Text(MISSING)
    return Text(f"{numbers.as_printed(cell.published)} {cell.mark}".rstrip())


def _text(cell: Cell | None, table: Table, numbers: NumberFormat, typical_n: int) -> Text:
    if cell is None or cell.asked == 0:
        return Text(IMPOSSIBLE if cell is not None and cell.impossible else MISSING)
    counts = ((cell.diverged, "diverged"), (cell.failed, "failed"), (cell.without, "no value"))
    remarks = [f"{count}/{cell.asked} {word}" for count, word in counts if count]
    n, mean, sd, _ = cell.summary
    if mean is None:
        return Text(", ".join(remarks))
    if not remarks and n != typical_n:
        remarks = [f"n={n}"]
    if picked := table.picks.remark((cell.row, cell.col)):
        remarks = [picked, *remarks]
    return Text(numbers(mean), "" if sd is None else f"± {numbers(sd)}", ", ".join(remarks), cell.best)
