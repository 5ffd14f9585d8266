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
    unit = table.number_format.unit
    return f"{table.metric} ({unit})" if unit else table.metric


def corner(table: Table) -> str:
    """What stands along the axes: `norm / batch`."""
    return " / ".join(part for part in (", ".join(table.rows), ", ".join(table.cols)) if part)


def lines(table: Table) -> list[Line]:
    """The body of a table; a row with published numbers has them on a line of their own."""
    numbers = table.number_format
    typical_n = table.typical_n
    body = []
    for row in table.row_labels:
        cells = [table.cells.get((row, col)) for col in table.col_labels]
        body.append(Line(row, False, tuple(_text(cell, table, numbers, typical_n) for cell in cells)))
        published = [None if cell is None else cell.published for cell in cells]
        if any(number is not None for number in published):
            texts = (Text(MISSING if number is None else numbers.as_printed(number)) for number in published)
            body.append(Line("published", True, tuple(texts)))
    return body


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
