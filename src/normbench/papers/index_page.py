"""The index of several reproduced tables: one line each, with its question and its verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from normbench.papers.reproduction import PaperReport, write_files
from normbench.report import escapes

NAME = "index.md"


def write_index(reports: Sequence[PaperReport], folder: Path) -> Path:
    """Write `folder`/index.md; return its path.

    Raises:
        RunFailure: it cannot be written.
    """
    file = folder / NAME
    write_files({file: index(reports)})
    return file


def index(reports: Sequence[PaperReport]) -> str:
    """The index as Markdown; links are relative to the folder of the tables."""
    lines = ["# Tables", "", "| table | scale | question | claims |", "|---|---|---|---|"]
    for report in reports:
        question = escapes.prose(report.paper.question or report.paper.title)
        name = f"[{escapes.markdown(report.paper.name)}]({report.stem}.md)"
        lines.append(f"| {name} | {report.scale} | {question} | {report.outcomes()} |")
    return "\n".join(lines) + "\n"
