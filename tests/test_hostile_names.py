"""Names that users and files give are only text, in everything that normbench writes or prints."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from html_reader import Reader
from mlp_spec import mlp_spec
from normbench import papers
from normbench.api.shown_table import ShownTable
from normbench.commands import status_lines, summary
from normbench.commands.text_table import columns, pipes
from normbench.csv_rows import csv_row
from normbench.events import RunEnded, SweepStarted
from normbench.figures.bars import bars
from normbench.figures.heat import heat
from normbench.figures.image import image
from normbench.figures.line import line
from normbench.pages import Site, of_report
from normbench.papers.catalogue import parse
from normbench.papers.drawings import Drawing
from normbench.papers.index_page import index
from normbench.record import FAILED, Record
from normbench.report.cells import Table
from normbench.report.render import render
from normbench.report.run_list import list_runs, render_runs
from normbench.report.tables import build_table
from normbench.report.terminal import renderable, run_lines
from normbench.run_states import RunState
from normbench.store import Store
from normbench.tracking.csv_file import CsvFile
from normbench.tracking.wandb_fields import MOST, cell, config, group, name
from normbench.visible import visible

NAMES = {
    "a script": "<script>alert(1)</script>",
    "an attribute": "\"'><img src=x onerror=alert(1)>",
    "mathematics": "$x$ and $$y$$",
    "LaTeX": r"a_b%&#{}~^\ \input{x}",
    "terminal markup": "[red]x[/red] [link=http://a]b[/link]",
    "a pipe": "a|b||c",
    "a link": "[a](javascript:alert(1)) ![b](http://c) <http://d>",
    "emphasis": "*a* _b_ `c` **d**",
    "a formula": "=1+1",
    "a call": "@SUM(1,1)",
    "a command": '+1+cmd|"/c calc"!A1',
    "control codes": "a\x1b[31mb\x1b]0;t\x07\r\nc\td\x00",
    "right to left": "\u202eabc\u2066d\u200f",
    "long": "x" * 500,
    "long words": " ".join(["word"] * 100),
    "a heading": "# a",
    "entities": "&lt;b&gt; &#60;",
    "an end of a comment": "--> <b>",
}
TABLE = """
title: NAME
question: NAME
citation: NAME
scales:
  tiny:
    setting: NAME
    rows: [norm]
    cols: [batch]
    grids: [{data: digits, model: mlp, norm: [bn, gn], batch: [2, 4], steps: 10, seed: [0, 1]}]
    claims:
      - {id: claim, text: NAME, kind: greater, a: {norm: bn, batch: 2}, b: {norm: bn, batch: 4}, margin: 0.1}
"""


@pytest.fixture(params=NAMES.values(), ids=NAMES)
def hostile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def record(error: float | None, norm: str, batch: int, seed: int, **given: Any) -> Record:
    """A run as the store has it. Its specification is not complete."""
    spec = mlp_spec(norm, batch, seed)
    number = sum(map(ord, norm)) * 1000 + batch * 10 + seed
    metrics = {} if error is None else {"test_error": error}
    made = Record(
        f"{number:016x}"[::-1], spec, "complete", metrics, {"train_s": 1.0}, {"torch": "2.6.0"},
        {"ended": "2026-01-02T03:04:05+00:00"},
    )  # fmt: skip
    return replace(made, **given)


@pytest.fixture
def records(hostile: str) -> list[Record]:
    """Runs of two norms, one with the name; its data have the name as their folder, and its notes hold it."""
    found = [record(0.1 + 0.01 * seed, norm, batch, seed) for norm in (hostile, "bn")
             for batch in (2, 4) for seed in (0, 1)]  # fmt: skip
    broken = record(None, hostile, 4, 2, status=FAILED, provenance={"error": hostile})
    return [*found, broken]


@pytest.fixture
def table(records: list[Record]) -> Table:
    return build_table(records, "norm", "batch", "test_error")


def check_terminal(text: str) -> None:
    """Nothing that moves the cursor, changes colours or turns the direction of writing."""
    strange = [char for char in text if char != "\n" and not char.isprintable()]
    assert not strange, strange


def check_html(text: str, name: str) -> None:
    page = Reader(text)
    assert not page.open
    assert not page.all("script") or all("src" in each.attributes for each in page.all("script"))
    assert not [each for each in page.elements if each.attributes.get("onerror")]
    assert not page.all("http:") and not [e for e in page.all("img") if e.attributes["src"] == "x"]
    check_terminal(text)
    assert visible(name).split()[0][:20] in "".join(each.text for each in page.elements)


def check_markdown(text: str) -> None:
    """As a page of the site shows it: no element that the writer of a name could have made."""
    markdown = pytest.importorskip("markdown", reason="needs the packages of `make site`")
    check_terminal(text)
    ours = re.sub(r"\[mine/table\]\(mine/table.tiny.md\)", "ours", text)
    without_comment = re.sub(r"\A<!-- made by: .*? -->\n", "", ours)
    page = Reader(markdown.markdown(without_comment, extensions=["tables"]))
    tags = {element.tag for element in page.elements}
    assert tags <= {
        "h1",
        "h2",
        "p",
        "ul",
        "li",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "strong",
        "em",
        "code",
    }
    assert len(page.all("h1")) <= 1


def check_latex(text: str) -> None:
    """No character of a name is left that LaTeX takes for a command. Commands of ours are known."""
    check_terminal(text)
    body = text.partition("\\midrule")[2].partition("\\bottomrule")[0]
    known = re.compile(
        r"\\text(backslash|asciitilde|asciicircum|less|greater|bar|periodcentered)\{\}|\\[&%$#_{}]"
        r"|\{\\ifdefined\\Umathchar [^{}]*\\else \[[^]]*\]\\fi\}|\$\\(pm|times|leq|geq|to)\$|\$-\$"
        r"|\\dots\{\}|\\textbf\{[^{}]*\}|\\quad|\\\\|\{\}|--"
    )
    left = known.sub("", body)
    assert not re.search(r"[\\$#%{}~^_]", left), left
    assert {line.count("&") for line in left.strip().splitlines()} <= {1, 2, 3, 4, 5, 6}


def check_csv(text: str) -> None:
    """Every line has all its cells, and no text is a formula for a spreadsheet."""
    lines = list(csv.reader(io.StringIO(text)))
    assert len({len(each) for each in lines}) == 1
    for text in itertools.chain(*lines):
        if text[:1] in ("=", "+", "-", "@", "\t", "\r"):
            float(text)


def check_svg(content: bytes) -> None:
    elements = [(each.tag.rpartition("}")[2], each) for each in ET.fromstring(content).iter()]
    assert not {tag for tag, _ in elements} & {"script", "a", "foreignObject"}
    links = [value for _, each in elements for key, value in each.attrib.items() if key.endswith("href")]
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    check_terminal(content.decode())


CHECKS: dict[str, Callable[[str], None]] = {
    "md": check_markdown, "latex": check_latex, "csv": check_csv, "json": lambda text: json.loads(text),
}  # fmt: skip


@pytest.mark.parametrize("format", CHECKS)
def test_a_table(table: Table, format: str) -> None:
    CHECKS[format](render(table, format))


@pytest.mark.parametrize("format", CHECKS)
def test_a_list_of_runs(records: list[Record], format: str) -> None:
    CHECKS[format](render_runs(list_runs(records, "norm", "batch", "test_error"), format))


@pytest.mark.parametrize("width", [40, 120])
@pytest.mark.parametrize("colours", [None, "standard"])
def test_a_terminal(table: Table, records: list[Record], width: int, colours: Any, hostile: str) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=colours, force_terminal=bool(colours))
    console.print(renderable(table, console))
    console.print(run_lines(list_runs(records, "norm", "batch", "test_error"), console))
    text = out.getvalue()
    check_terminal(re.sub(r"\x1b\[[0-9;]*m", "", text) if colours else text)
    assert visible(hostile).split()[0][:20] in text.replace("\n", "")


def test_a_notebook(table: Table, hostile: str) -> None:
    check_html(ShownTable.of(table)._repr_html_(), hostile)


def test_pages_of_a_report(records: list[Record], table: Table, hostile: str) -> None:
    described = parse("mine/table", TABLE.replace("NAME", json.dumps(hostile)))
    report = papers.report(described, "tiny", records)
    drawing = Drawing("one", hostile, hostile, b"<svg/>", "")
    site = Site([of_report(report, [drawing])], lambda run: hostile, lambda signature: ())
    for file, text in site.files().items():
        if file.endswith(".html"):
            check_html(text, hostile if file == "mine.table.tiny.html" else "normbench")


def test_a_reproduced_table(records: list[Record], hostile: str) -> None:
    described = parse("mine/table", TABLE.replace("NAME", json.dumps(hostile)))
    report = papers.report(described, "tiny", records, options=[f"data.path={hostile}"])
    check_markdown(report.markdown())
    check_markdown(index([report]))
    for text in (*report.heading(), *(claim.line() for claim in report.claims)):
        check_terminal(text)
        assert "\n" not in text


@pytest.mark.parametrize("draw", [line, bars, heat])
def test_a_figure(table: Table, draw: Callable[[Table], Any]) -> None:
    figure = draw(table)
    check_svg(image(figure, "svg"))
    [axes, *_] = figure.axes
    assert axes.get_window_extent().width > 0.25 * figure.bbox.width, "names leave no room for the axes"


def test_lines_of_commands(records: list[Record], hostile: str, tmp_path: Any) -> None:
    store, states = Store(tmp_path), []
    for each in records:
        store.put(each)
        states.append(RunState(each.signature, each.status, reason=each.provenance.get("error")))
    specs = {each.signature: each.spec for each in records}
    shown = [*summary.broken(records, store), *status_lines.lines(states, specs, store, whole=False)]
    shown += columns([{"name": hostile, hostile: 1}])
    for text in shown:
        check_terminal(text)
        assert "\n" not in text


def test_cells_of_generated_pages(hostile: str) -> None:
    *_, row = pipes([{"name": hostile, "other": "x"}])
    assert len(re.split(r"(?<!\\)\|", row)) == 4
    assert "\n" not in row


def test_wandb(hostile: str) -> None:
    spec = record(0.1, hostile, 2, 0).spec
    for text in (cell(spec, ["data.path"]), name(spec), group(spec, "0" * 16)):
        check_terminal(text)
        assert 0 < len(text) <= MOST and text == text.strip()
    json.dumps(config(spec))


def test_the_csv_tracker(records: list[Record], hostile: str, tmp_path: Any) -> None:
    tracker = CsvFile(tmp_path, lambda line: None)
    tracker.notify(SweepStarted(len(records), 0, 1, 10, varying=("norm", "batch")))
    for each in records:
        Store(tmp_path).put(each)
        tracker.notify(RunEnded(each))
    tracker.close()
    [file] = (tmp_path / "csv").iterdir()
    with file.open(encoding="utf-8", newline="") as stream:
        check_csv(stream.read())


def test_a_cell_of_csv_keeps_numbers_and_other_texts() -> None:
    given = ["-1", -1, "1e-3", "-inf", "bn", "–", None, "a=b", ""]
    assert csv_row(given) == given
