"""Tables as text files: Markdown, CSV, LaTeX with booktabs, JSON. The terminal has its own module."""

from __future__ import annotations

import csv
import io
import json

from normbench.csv_rows import csv_row
from normbench.errors import unknown
from normbench.labels import label
from normbench.report import escapes
from normbench.report.axes import METRIC
from normbench.report.cells import Cell, Table
from normbench.report.images import IMAGES
from normbench.report.picking import Pick
from normbench.report.table_layout import Line, Text, caption, corner, lines

FORMATS = ("md", "csv", "latex", "json")

_NUMBERS = (
    "metric", "n", "mean", "sd", "ci95_low", "ci95_high", "published",
    "diverged", "failed", "without", "values", "runs",
)  # fmt: skip


def render(table: Table, format: str) -> str:
    """The table in one of FORMATS, ending in a line break.

    Raises:
        InputError: there is no such format.
    """
    writers = {"md": markdown, "csv": comma_separated, "latex": latex, "json": as_json}
    if format not in writers:
        raise unknown("format", format, FORMATS)
    return writers[format](table)


def markdown(table: Table) -> str:
    """A pipe table with its footnotes below."""
    images = (IMAGES,) if table.images else ()
    head = [escapes.markdown(text) for text in (corner(table), *images, *table.col_labels)]
    rows = [head, ["---", *("---:" for _ in head[1:])]]
    rows += [
        [_markdown_label(line), *(line.images for _ in images), *map(_markdown_text, line.texts)]
        for line in lines(table)
    ]
    body = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    below = [f"**Warning:** {escapes.markdown(warning)}" for warning in table.warnings]
    below += map(escapes.markdown, table.notes)
    return f"{escapes.markdown(caption(table))}\n\n{body}\n" + "".join(f"\n{line}\n" for line in below)


def comma_separated(table: Table) -> str:
    """One line per cell with its numbers in full, one column per key; lists are separated by spaces."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    picks = table.picks
    chosen = (*(f"picked_{key}" for key in picks.keys), "at_edge") if picks.keys else ()
    trusted = any(cell.trust for cell in table.cells.values())
    lacking = any(cell.missing for cell in table.cells.values())
    own_columns = (
        *(("images_per_statistic",) if table.images else ()),
        *(("missing",) if lacking else ()),
        *(("difference", "difference_low", "difference_high", "pairs") if table.baseline else ()),
    )
    excluded = any(cell.impossible for cell in table.cells.values())
    last = (*(("published_trust",) if trusted else ()), *(("impossible",) if excluded else ()))
    head = (*table.rows, *table.cols, *chosen, *own_columns, *_NUMBERS, *last)
    writer.writerow(csv_row(name for place, name in enumerate(head) if name not in head[:place]))
    for cell in table.cells.values():
        n, mean, sd, ci95 = cell.summary
        broken = (cell.diverged, cell.failed, cell.without)
        lists = (" ".join(map(repr, cell.values)), " ".join(cell.runs))
        shown = () if METRIC in (*table.rows, *table.cols) else (table.metric,)
        numbers = (*shown, n, mean, sd, *(ci95 or (None, None)), cell.published, *broken, *lists)
        pick = picks.cells.get((cell.row, cell.col), Pick())
        values = pick.values or (None,) * len(picks.keys)
        own = (*(each if each is None else label(each) for each in values), " ".join(pick.at_edge))
        before = (
            *(own if picks.keys else ()),
            *((table.images.get(cell.row),) if table.images else ()),
            *((cell.missing,) if lacking else ()),
            *(_difference_columns(cell) if table.baseline else ()),
        )
        after = (*((cell.trust,) if trusted else ()), *((cell.impossible,) if excluded else ()))
        writer.writerow(csv_row((*table.parts(cell.row, cell.col), *before, *numbers, *after)))
    return out.getvalue()


def _difference_columns(cell: Cell) -> tuple[float | None, ...]:
    if cell.difference is None:
        return (None,) * 4
    n, mean, ci95 = cell.difference
    return (mean, *(ci95 or (None, None)), n)


def latex(table: Table) -> str:
    """A booktabs tabular, its footnotes in small print below; to be used with \\input."""
    width = len(table.col_labels)
    images = (IMAGES,) if table.images else ()
    head = [
        "% needs \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{l{'r' * (len(images) + width)}}}",
        "\\toprule",
    ]
    if table.cols:
        first_number = 2 + len(images)
        named = escapes.latex(", ".join(table.cols))
        head += [f"{' &' * (first_number - 1)} \\multicolumn{{{width}}}{{c}}{{{named}}} \\\\"]
        head += [f"\\cmidrule(lr){{{first_number}-{width + first_number - 1}}}"]
    first = f"{', '.join(table.rows)}"
    head += [" & ".join(map(escapes.latex_first, (first, *images, *table.col_labels))) + r" \\", r"\midrule"]
    body = [
        " & ".join([_latex_label(line), *(line.images for _ in images), *map(_latex_text, line.texts)])
        + r" \\"
        for line in lines(table)
    ]
    below = [f"Warning: {warning}" for warning in table.warnings] + list(table.notes)
    small = " ".join(escapes.latex(f"{line.removesuffix('.')}.") for line in (caption(table), *below))
    foot = [r"\bottomrule", r"\end{tabular}", rf"\par\smallskip{{\footnotesize {small}\par}}"]
    return "\n".join([*head, *body, *foot]) + "\n"


def as_json(table: Table) -> str:
    """The plain containers of the table, indented; metrics are fractions."""
    return json.dumps(table.to_json(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _markdown_label(line: Line) -> str:
    label = escapes.markdown(line.label)
    return f"*{label}*" if line.published else label


def _markdown_text(text: Text) -> str:
    mean = f"**{text.mean}**" if text.best else text.mean
    remark = f"({text.remark})" if text.remark else ""
    return " ".join(part for part in (mean, text.spread, remark) if part)


def _latex_label(line: Line) -> str:
    return rf"\quad {escapes.latex(line.label)}" if line.published else escapes.latex_first(line.label)


def _latex_text(text: Text) -> str:
    mean = rf"\textbf{{{escapes.latex(text.mean)}}}" if text.best else escapes.latex(text.mean)
    remark = f"({escapes.latex(text.remark)})" if text.remark else ""
    return " ".join(part for part in (mean, escapes.latex(text.spread), remark) if part)
