"""A table as lines of short texts, the same for every format: rounded numbers and remarks in words."""

from __future__ import annotations

from typing import NamedTuple

from normbench.conditions import quantity
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
    """One line under the header. Published numbers and differences have lines below that of our own runs.

    `published` says that the line is one of those. `images` is the images per statistic of the row.
    """

    label: str
    published: bool
    texts: tuple[Text, ...]
    images: str = ""


def caption(table: Table) -> str:
    """What the numbers are: `test_error (%)`.

    If the metric is an axis of the table, its labels are full names. Then each quantity stands here once.
    """
    formats = table.formats()
    on_axis = "metric" in (*table.rows, *table.cols)
    units = [(quantity(metric) if on_axis else metric, formats[metric].unit) for metric in table.metrics]
    return ", ".join(f"{metric} ({unit})" if unit else metric for metric, unit in dict.fromkeys(units))


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
        body.append(Line(row, False, tuple(texts), table.images.get(row, "")))
        if any(cell is not None and cell.published is not None for cell in cells):
            published = (_published(cell, form) for cell, form in zip(cells, numbers, strict=True))
            body.append(Line("published", True, tuple(published)))
        if any(cell is not None and cell.difference is not None for cell in cells):
            differences = (_difference(cell, form) for cell, form in zip(cells, numbers, strict=True))
            body.append(Line(f"minus {table.baseline}", True, tuple(differences)))
    return body


def _published(cell: Cell | None, numbers: NumberFormat) -> Text:
    """A published number with its mark, if it has one."""
    if cell is None or cell.published is None:
        return Text(MISSING)
    return Text(f"{numbers.as_printed(cell.published)} {cell.mark}".rstrip())


def _difference(cell: Cell | None, numbers: NumberFormat) -> Text:
    """A difference with its sign, and its interval."""
    if cell is None or cell.difference is None:
        return Text(MISSING)
    n, mean, ci95 = cell.difference
    interval = f"[{_signed(ci95[0], numbers)}, {_signed(ci95[1], numbers)}]" if ci95 else ""
    return Text(_signed(mean, numbers), interval, f"n={n}" if n != cell.summary.n else "")


def _signed(value: float, numbers: NumberFormat) -> str:
    text = numbers(value).replace("-", "−")
    return text if text.startswith("−") or not float(text) else f"+{text}"


def remarks_on(cell: Cell) -> list[str]:
    """What became of the runs of a cell that do not enter its mean, such as `1/3 diverged`."""
    counts = (
        (cell.diverged, "diverged"), (cell.failed, "failed"), (cell.without, "no value"),
        (cell.missing, "missing"),
    )  # fmt: skip
    return [f"{count}/{cell.asked + cell.missing} {word}" for count, word in counts if count]


def _text(cell: Cell | None, table: Table, numbers: NumberFormat, typical_n: int) -> Text:
    if cell is None:
        return Text(MISSING)
    if cell.impossible and not cell.asked:
        return Text(IMPOSSIBLE)
    if not (remarks := remarks_on(cell)) and not cell.asked:
        return Text(MISSING)
    n, mean, sd, _ = cell.summary
    if mean is None:
        return Text(", ".join(remarks))
    if not remarks and n != typical_n:
        remarks = [f"n={n}"]
    if picked := table.picks.remark((cell.row, cell.col)):
        remarks = [picked, *remarks]
    return Text(numbers(mean), "" if sd is None else f"± {numbers(sd)}", ", ".join(remarks), cell.best)
