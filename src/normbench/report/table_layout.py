"""A table as lines of short texts, the same for every format: numbers are rounded and remarks worded here."""

from __future__ import annotations

from typing import NamedTuple

from normbench.report.cells import Cell, Table
from normbench.report.selection import MISSING


class Text(NamedTuple):
    """What a cell says: the mean, "± sd", and a remark on its runs; the parts that do not apply are empty."""

    mean: str
    spread: str = ""
    remark: str = ""
    best: bool = False


class Line(NamedTuple):
    """One line under the header; a published line follows the line of our own runs."""

    label: str
    published: bool
    texts: tuple[Text, ...]


class NumberFormat(NamedTuple):
    """How numbers of a metric are written: factor, decimals, and the unit that the caption names."""

    factor: float
    decimals: int
    unit: str

    def __call__(self, value: float) -> str:
        return f"{value * self.factor:.{self.decimals}f}"

    def as_printed(self, value: float) -> str:
        """A published number, without decimals that its source does not have."""
        whole, _, decimals = self(value).partition(".")
        return f"{whole}.{decimals.rstrip('0') or '0'}" if decimals else whole


def number_format(table: Table) -> NumberFormat:
    """Errors are shown in percent; other metrics with about four digits, the same decimals in every cell."""
    if table.metric.partition("@")[0].endswith("_error"):
        return NumberFormat(100.0, 2, "%")
    largest = max((abs(value) for cell in table.cells.values() for value in cell.values), default=0.0)
    decimals = next((d for limit, d in ((1, 4), (10, 3), (100, 2), (1000, 1)) if largest < limit), 0)
    return NumberFormat(1.0, decimals, "")


def caption(table: Table) -> str:
    """What the numbers are: `test_error (%)`."""
    unit = number_format(table).unit
    return f"{table.metric} ({unit})" if unit else table.metric


def corner(table: Table) -> str:
    """What stands along the axes: `norm / batch`."""
    return " / ".join(part for part in (", ".join(table.rows), ", ".join(table.cols)) if part)


def lines(table: Table) -> list[Line]:
    """The body of a table; a row with published numbers has them on a line of their own."""
    form = number_format(table)
    body = []
    for row in table.row_labels:
        cells = [table.cells.get((row, col)) for col in table.col_labels]
        body.append(Line(row, False, tuple(_text(cell, form, table.usual_n) for cell in cells)))
        published = [None if cell is None else cell.published for cell in cells]
        if any(number is not None for number in published):
            texts = (Text(MISSING if number is None else form.as_printed(number)) for number in published)
            body.append(Line("published", True, tuple(texts)))
    return body


def _text(cell: Cell | None, form: NumberFormat, usual_n: int) -> Text:
    if cell is None or cell.asked == 0:
        return Text(MISSING)
    counts = ((cell.diverged, "diverged"), (cell.failed, "failed"), (cell.without, "no value"))
    remarks = [f"{count}/{cell.asked} {word}" for count, word in counts if count]
    n, mean, sd, _ = cell.summary
    if mean is None:
        return Text(", ".join(remarks))
    if not remarks and n != usual_n:
        remarks = [f"n={n}"]
    return Text(form(mean), "" if sd is None else f"± {form(sd)}", ", ".join(remarks), cell.best)
