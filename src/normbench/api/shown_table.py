"""The table of `normbench table` as a value that shows itself: in a shell, in a notebook, in a file."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from normbench.errors import InputError
from normbench.report.cells import Table
from normbench.report.images import IMAGES
from normbench.report.render import render
from normbench.report.table_layout import Line, Text, caption, corner, lines

if TYPE_CHECKING:
    from pandas import DataFrame

_BY_SUFFIX = {".md": "md", ".csv": "csv", ".tex": "latex", ".json": "json"}


@dataclass(frozen=True, repr=False)
class ShownTable(Table):
    """A table with error bars. Its cells, rows and columns are those of `normbench.report.cells.Table`."""

    @classmethod
    def of(cls, table: Table) -> ShownTable:
        return cls(**{field.name: getattr(table, field.name) for field in fields(Table)})

    def __repr__(self) -> str:
        """As `normbench table` prints it to a file or a pipe."""
        from rich.console import Console

        from normbench.report.terminal import renderable

        out = io.StringIO()
        console = Console(file=out, width=200, highlight=False, color_system=None)
        console.print(renderable(self, console))
        return "\n".join(line.rstrip() for line in out.getvalue().splitlines())

    def _repr_html_(self) -> str:
        """For notebooks."""
        head = [corner(self), *((IMAGES,) if self.images else ()), *self.col_labels]
        cells = "".join(f"<th>{escape(text)}</th>" for text in head)
        body = "".join(self._html_line(line) for line in lines(self))
        below = [f"<strong>Warning:</strong> {escape(warning)}" for warning in self.warnings]
        below += map(escape, self.notes)
        notes = "".join(f"<p><small>{text}</small></p>" for text in below)
        return (
            f"<table><caption>{escape(caption(self))}</caption>"
            f"<thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>{notes}"
        )

    def _html_line(self, line: Line) -> str:
        images = f"<td>{escape(line.images)}</td>" if self.images else ""
        cells = "".join(f"<td>{_html_text(text)}</td>" for text in line.texts)
        return f"<tr><th>{escape(line.label)}</th>{images}{cells}</tr>"

    def to_markdown(self) -> str:
        return render(self, "md")

    def to_latex(self) -> str:
        """LaTeX; needs the package booktabs."""
        return render(self, "latex")

    def to_csv(self) -> str:
        """One line per cell with its numbers in full."""
        return render(self, "csv")

    def to_frame(self) -> DataFrame:
        """One row per cell: row, col, mean, sd, ci95, n, values, runs, and what is said of lost runs.

        Raises:
            InputError: pandas is not installed.
        """
        from normbench.api.frames import frame_of

        return frame_of(self.to_json()["cells"])

    def save(self, file: str | Path) -> Path:
        """Write the table to a file: .md, .csv, .tex or .json.

        Raises:
            InputError: another suffix, or the file cannot be written.
        """
        from normbench.commands.text_file import write

        path = Path(file).expanduser()
        if path.suffix not in _BY_SUFFIX:
            raise InputError(f"a file must end in {', '.join(_BY_SUFFIX)}; got '{file}'")
        write(path, render(self, _BY_SUFFIX[path.suffix]))
        return path


def _html_text(text: Text) -> str:
    mean = f"<strong>{escape(text.mean)}</strong>" if text.best else escape(text.mean)
    remark = f"({escape(text.remark)})" if text.remark else ""
    return " ".join(filter(None, (mean, escape(text.spread), remark)))
