from __future__ import annotations

import csv
import io
import json

import pytest

from normbench.errors import InputError
from normbench.report.cells import Table
from normbench.report.render import FORMATS, escape, render
from normbench.report.tables import build_table


@pytest.fixture
def table(make, runs, numbered) -> Table:
    """All that a table can show: spread, bold, a divergence, another n, a published number, an empty cell."""
    runs.append(make(None, norm="none", batch=32, total=32, seed=0, status="diverged"))
    runs.append(make(0.05, norm="ln_chw", batch=32, total=32, seed=0))
    runs += [make(0.06 + 0.01 * seed, norm="ln_chw", batch=2, total=32, seed=seed) for seed in range(2)]
    runs.append(make(None, norm="ln_chw", batch=2, total=32, seed=2, status="diverged"))
    published = {("bn", "32"): 0.236, ("bn", "2"): 0.347, ("in", "32"): 0.284}
    axes = (["bn", "gn", "ln_chw", "in", "none"], ["32", "2"])
    return build_table(numbered(runs), "norm", "batch", "test_error", published=published, axes=axes)


@pytest.mark.parametrize(
    ("form", "name"),
    [("md", "table.md"), ("latex", "table.tex"), ("csv", "table.csv"), ("json", "table.json")],
)
def test_every_format_is_the_golden_one(table, golden, form, name) -> None:
    golden(name, render(table, form))


def test_an_unknown_format_is_bad_input(table) -> None:
    with pytest.raises(InputError, match="unknown format 'tex'; nearest: latex"):
        render(table, "tex")


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_renders_a_table_without_a_run(form) -> None:
    empty = build_table([], "norm", "batch", "test_error", axes=(["bn"], ["32"]))
    assert render(empty, form).endswith("\n")


def test_missing_cells_are_dashes_and_errors_are_percent(table) -> None:
    lines = render(table, "md").splitlines()
    assert lines[0] == "test_error (%)"
    assert "| bn | **2.10** ± 0.10 | 43.10 ± 1.05 |" in lines
    assert "| none | 1/1 diverged | – |" in lines
    assert "| in | – | – |" in lines
    assert lines[lines.index("| in | – | – |") + 1] == "| *published* | 28.4 | – |"


def test_a_cell_says_how_many_runs_it_lacks(table) -> None:
    text = render(table, "md")
    assert "| ln_chw | 5.00 (n=1) | 6.50 ± 0.71 (1/3 diverged) |" in text


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ((0.12345, 0.11), "0.1167 ± 0.0095"),
        ((2.345, 2.1), "2.223 ± 0.173"),
        ((45.67, 40.0), "42.84 ± 4.01"),
        ((456.7, 400.0), "428.4 ± 40.1"),
        ((4567.0, 4000.0), "4284 ± 401"),
    ],
)
def test_other_metrics_have_about_four_digits(make, values, shown) -> None:
    runs = [make(None, seed=seed, metrics={"test_loss": value}) for seed, value in enumerate(values)]
    assert f"| bn | {shown} |" in render(build_table(runs, "norm", "batch", "test_loss"), "md")


def test_an_error_under_other_statistics_is_percent_too(make) -> None:
    run = make(None, metrics={"test_error@batch": 0.031})
    text = render(build_table([run], "norm", "batch", "test_error@batch"), "md")
    assert text.startswith("test_error@batch (%)")
    assert "| bn | 3.10 |" in text


def test_a_target_that_was_never_met_is_not_a_number(make) -> None:
    runs = [make(0.1, seed=seed, metrics={"steps_to_0.1": steps}) for seed, steps in enumerate((100.0, None))]
    text = render(build_table(runs, "norm", "batch", "steps_to_0.1"), "md")
    assert "| bn | 100.0 (1/2 no value) |" in text


def test_csv_holds_every_number_in_full(table) -> None:
    rows = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    cell = table.cells["bn", "2"]
    [row] = [row for row in rows if (row["row"], row["col"]) == ("bn", "2")]
    assert [float(value) for value in row["values"].split()] == list(cell.values)
    assert row["runs"].split() == list(cell.runs)
    assert float(row["mean"]) == cell.summary.mean
    assert float(row["published"]) == 0.347


def test_json_reads_back_as_the_table(table) -> None:
    assert json.loads(render(table, "json")) == table.to_json()


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("ln_chw & 50 %", r"ln\_chw \& 50 \%"),
        ("a#b$c{d}", r"a\#b\$c\{d\}"),
        ("x^2 ~ \\y", r"x\textasciicircum{}2 \textasciitilde{} \textbackslash{}y"),
        ("bn · –", r"bn \textperiodcentered{} --"),
    ],
)
def test_latex_takes_no_label_for_a_command(text, escaped) -> None:
    assert escape(text) == escaped


def test_a_bar_in_a_label_does_not_split_a_markdown_cell(make) -> None:
    run = make(0.1, placement={"sites": "conv1|conv2"})
    text = render(build_table([run], "placement.sites", "batch", "test_error"), "md")
    assert r"| conv1\|conv2 | 10.00 |" in text
