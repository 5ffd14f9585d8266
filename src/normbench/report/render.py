"""Tables as text files: Markdown, CSV, LaTeX with booktabs, JSON. The terminal has its own module."""

from __future__ import annotations

import csv
import io
import json

from normbench.errors import unknown
from normbench.report.cells import Table
from normbench.report.table_layout import Line, Text, caption, corner, lines

FORMATS = ("md", "csv", "latex", "json")

_COLUMNS = (
    "row", "col", "metric", "n", "mean", "sd", "ci95_low", "ci95_high", "published",
    "diverged", "failed", "without", "values", "runs",
)  # fmt: skip

_LATEX = str.maketrans({
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "·": r"\textperiodcentered{}",
    "–": "--", "±": r"$\pm$", "×": r"$\times$", "≤": r"$\leq$", "≥": r"$\geq$",
    "−": "$-$", "→": r"$\to$", "…": r"\dots{}",
})  # fmt: skip


def render(table: Table, form: str) -> str:
    """The table in one of FORMATS, ending in a line break.

    Raises:
        InputError: there is no such format.
    """
    writers = {"md": markdown, "csv": comma_separated, "latex": latex, "json": as_json}
    if form not in writers:
        raise unknown("format", form, FORMATS)
    return writers[form](table)


def markdown(table: Table) -> str:
    """A pipe table with its footnotes below."""
    rows = [[corner(table), *table.col_labels], ["---", *("---:" for _ in table.col_labels)]]
    rows += [[_markdown_label(line), *map(_markdown_text, line.texts)] for line in lines(table)]
    body = "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows)
    below = [f"**Warning:** {warning}" for warning in table.warnings] + list(table.notes)
    return f"{caption(table)}\n\n{body}\n" + "".join(f"\n{line}\n" for line in below)


def comma_separated(table: Table) -> str:
    """One line per cell with its numbers in full, for further analysis; lists are separated by spaces."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for cell in table.cells.values():
        n, mean, sd, ci95 = cell.summary
        where = (cell.row, cell.col, table.metric)
        broken = (cell.diverged, cell.failed, cell.without)
        lists = (" ".join(map(repr, cell.values)), " ".join(cell.runs))
        writer.writerow((*where, n, mean, sd, *(ci95 or (None, None)), cell.published, *broken, *lists))
    return out.getvalue()


def latex(table: Table) -> str:
    """A booktabs tabular, its footnotes in small print below; to be used with \\input."""
    width = len(table.col_labels)
    head = [
        "% needs \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{l{'r' * width}}}",
        "\\toprule",
    ]
    if table.cols:
        head += [f" & \\multicolumn{{{width}}}{{c}}{{{escape(', '.join(table.cols))}}} \\\\"]
        head += [f"\\cmidrule(lr){{2-{width + 1}}}"]
    first = f"{', '.join(table.rows)}"
    head += [" & ".join(map(escape, (first, *table.col_labels))) + r" \\", r"\midrule"]
    body = [" & ".join([_latex_label(line), *map(_latex_text, line.texts)]) + r" \\" for line in lines(table)]
    below = [f"Warning: {warning}" for warning in table.warnings] + list(table.notes)
    small = " ".join(escape(line) for line in (f"{caption(table)}.", *below))
    foot = [r"\bottomrule", r"\end{tabular}", rf"\par\smallskip{{\footnotesize {small}\par}}"]
    return "\n".join([*head, *body, *foot]) + "\n"


def as_json(table: Table) -> str:
    """The plain containers of the table, indented; metrics are fractions."""
    return json.dumps(table.to_json(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def escape(text: str) -> str:
    """Text with what LaTeX would take for a command made harmless.

    >>> escape("50 % of a_b")
    '50 \\\\% of a\\\\_b'
    """
    return text.translate(_LATEX)


def _markdown_label(line: Line) -> str:
    return f"*{line.label}*" if line.published else line.label


def _markdown_text(text: Text) -> str:
    mean = f"**{text.mean}**" if text.best else text.mean
    remark = f"({text.remark})" if text.remark else ""
    return " ".join(part for part in (mean, text.spread, remark) if part)


def _latex_label(line: Line) -> str:
    return rf"\quad {escape(line.label)}" if line.published else escape(line.label)


def _latex_text(text: Text) -> str:
    mean = rf"\textbf{{{escape(text.mean)}}}" if text.best else escape(text.mean)
    remark = f"({escape(text.remark)})" if text.remark else ""
    return " ".join(part for part in (mean, escape(text.spread), remark) if part)
