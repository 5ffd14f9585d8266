"""pdfLaTeX compiles every table: golden, packaged, committed, and with names that mean something to LaTeX."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from normbench import papers
from normbench.report.render import latex
from normbench.report.run_list import list_runs, render_runs
from normbench.report.tables import build_table

ROOT = Path(__file__).parents[2]
PDFLATEX = shutil.which("pdflatex")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PDFLATEX is None, reason="needs pdfLaTeX: make test-latex installs Debian's as root"),
]
HEAD = r"""\documentclass{article}
\usepackage[paperwidth=200cm,paperheight=100cm]{geometry}
\usepackage{booktabs}
\begin{document}
"""


def compiled(texts: dict[str, str], folder: Path) -> str:
    """Compile one page per text; returns the log. The first error of LaTeX fails the test."""
    for name, text in texts.items():
        (folder / f"{name}.tex").write_text(text, encoding="utf-8")
    pages = "".join(f"\\input{{{name}.tex}}\n\\clearpage\n" for name in texts)
    (folder / "all.tex").write_text(f"{HEAD}{pages}\\end{{document}}\n", encoding="utf-8")
    words = [str(PDFLATEX), "-interaction=nonstopmode", "-halt-on-error", "-file-line-error", "all.tex"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    faults = [line for line in done.stdout.splitlines() if re.match(r"(!|\./)", line)]
    assert done.returncode == 0, faults[:5]
    return (folder / "all.log").read_text(encoding="utf-8", errors="replace")


def check(texts: dict[str, str], folder: Path) -> None:
    log = compiled(texts, folder)
    [pages] = re.findall(r"Output written on all\.pdf \((\d+) pages?", log)
    assert int(pages) == len(texts) > 0
    assert not re.findall(r"Missing character.*|Overfull.*|LaTeX Warning.*", log)


def test_files_of_tables_compile(tmp_path: Path) -> None:
    """The golden ones, and those in results/reference."""
    files = [*(ROOT / "tests/golden").rglob("*.tex"), *(ROOT / "results/reference").rglob("*.tex")]
    assert len(files) > 20
    check({f"{i}-{file.stem}": file.read_text(encoding="utf-8") for i, file in enumerate(files)}, tmp_path)


def test_every_packaged_table_compiles_at_every_scale(tmp_path: Path) -> None:
    reports = [
        papers.report(table, scale, [])
        for table in map(papers.load, papers.names())
        for scale in table.scales
    ]
    check({report.stem.replace("/", "-"): latex(report.table) for report in reports}, tmp_path)


def test_hostile_names_compile_as_rows_columns_published_and_in_lists(
    hostile, hostile_runs, tmp_path
) -> None:
    labels = list(hostile.row_labels)
    published = {(name, "32"): 0.1 for name in labels}
    beside = build_table(
        hostile_runs, "norm", "batch", "test_error", published=published, axes=(labels, ["32"])
    )
    columns = build_table(hostile_runs, "batch", "norm", "test_error")
    runs = render_runs(list_runs(hostile_runs, "norm", "batch", "test_error"), "latex")
    tables = {"rows": hostile, "beside": beside, "columns": columns}
    check({"runs": runs, **{name: latex(table) for name, table in tables.items()}}, tmp_path)


def test_a_fault_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="Missing \\$ inserted"):
        compiled({"fine": "text", "broken": "a_b"}, tmp_path)
