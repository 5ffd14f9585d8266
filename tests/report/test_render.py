from __future__ import annotations

import csv
import io
import json
import re

import pytest

from normbench.errors import InputError
from normbench.report.cells import Table
from normbench.report.escapes import latex
from normbench.report.render import FORMATS, render
from normbench.report.run_list import list_runs, render_runs
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


def test_the_caption_names_a_quantity_once_if_metrics_are_an_axis(make) -> None:
    metrics = ["test_error", "test_error@batch", "test_error/contrast:3@adapt", "test_loss"]
    run = make(None, metrics=dict.fromkeys(metrics, 0.5))
    text = render(build_table([run], "metric", "norm", metrics), "md")
    assert text.startswith("test_error (%), test_loss\n")
    assert all(f"| {metric} |" in text for metric in metrics)


def test_a_target_that_was_never_met_is_not_a_number(make) -> None:
    runs = [make(0.1, seed=seed, metrics={"steps_to_0.1": steps}) for seed, steps in enumerate((100.0, None))]
    text = render(build_table(runs, "norm", "batch", "steps_to_0.1"), "md")
    assert "| bn | 100 (1/2 no value) |" in text


def test_csv_holds_every_number_in_full(table) -> None:
    rows = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    cell = table.cells["bn", "2"]
    [row] = [row for row in rows if (row["norm"], row["batch"]) == ("bn", "2")]
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
        ("γ÷é图像_", r"$\gamma$$\div$é{\ifdefined\Umathchar 图像\else [U+56FE U+50CF]\fi}\_"),
    ],
)
def test_latex_takes_no_label_for_a_command(text, escaped) -> None:
    assert latex(text) == escaped


def test_a_bar_in_a_label_does_not_split_a_markdown_cell(make) -> None:
    run = make(0.1, placement={"sites": "conv1|conv2"})
    text = render(build_table([run], "placement.sites", "batch", "test_error"), "md")
    assert r"| conv1\|conv2 | 10.00 |" in text


# Hostile names


@pytest.mark.parametrize("format", FORMATS)
def test_no_name_breaks_a_file(hostile, format) -> None:
    text = render(hostile, format)
    text.encode("utf-8")
    assert not {"\u202e", "\t"} & set(text)
    if format == "md":
        rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
        assert len(rows) == 1 + len(hostile.row_labels)
        assert all(len(re.split(r"(?<!\\)\|", row)) == 4 for row in rows)
        assert "<b>" not in text
    if format == "latex":
        body = text.partition("\\midrule")[2].partition("\\bottomrule")[0]
        rows = body.strip().splitlines()
        assert len(rows) == len(hostile.row_labels)
        assert all(len(re.split(r"(?<!\\)&", row)) == 2 for row in rows)
    if format == "csv":
        assert [len(row) for row in csv.reader(io.StringIO(text))] == [14] * (1 + len(hostile.row_labels))
    if format == "json":
        assert len(json.loads(text)["cells"]) == len(hostile.row_labels)


def test_every_key_has_a_csv_column(make) -> None:
    runs = [make(0.1, norm="bn", batch=3, optim={"lr": 0.5})]
    [row] = csv.DictReader(
        io.StringIO(render(build_table(runs, "norm,optim.lr", "batch,seed", "test_error"), "csv"))
    )
    assert [row[key] for key in ("norm", "optim.lr", "batch", "seed")] == ["bn", "0.5", "3", "0"]
    assert "row" not in row


@pytest.mark.parametrize(
    ("metric", "values", "shown"),
    [
        ("steps_to_0.1", (20, 20), "20 ± 0"),
        ("steps_to_0.1", (20.0, 25.0), "22.5 ± 3.5"),
        ("images", (12_000_000, 12_000_000), "12000000 ± 0"),
        ("test_loss", (0.0, 0.0), "0.0000 ± 0.0000"),
        ("test_loss", (1e-5, 3e-5), "0.00002000 ± 0.00001414"),
        ("test_loss", (1.5e30, 2.5e30), "2e+30 ± 7.071e+29"),
        ("test_loss", (1e308, 1e308), "1e+308 ± 0"),
    ],
)
def test_counts_are_integers_and_extreme_numbers_are_readable(make, metric, values, shown) -> None:
    runs = [make(None, seed=seed, metrics={metric: value}) for seed, value in enumerate(values)]
    table = build_table(runs, "norm", "batch", metric)
    assert f"| bn | {shown} |" in render(table, "md")
    for format in FORMATS:
        render(table, format)


@pytest.mark.parametrize("value", [[1, 2], "text", float("nan"), float("inf"), True, {}, 10**400])
def test_what_is_no_number_counts_as_no_value(make, value) -> None:
    runs = [make(None, metrics={"test_loss": value}), make(None, seed=1, metrics={"test_loss": 0.5})]
    table = build_table(runs, "norm", "batch", "test_loss")
    assert "| bn | 0.5000 (1/2 no value) |" in render(table, "md")


# One line per run


@pytest.mark.parametrize("format", FORMATS)
def test_runs_are_listed_one_per_line_in_every_format(make, format) -> None:
    runs = [make(0.1 + seed / 10, norm=norm, seed=seed) for norm in ("gn", "bn") for seed in range(2)]
    runs.append(make(0.9, norm="bn", seed=2, status="diverged"))
    text = render_runs(list_runs(runs, "norm", "batch", "test_error", "norm=gn,bn"), format)
    if format == "json":
        assert [row["test_error"] for row in json.loads(text)] == [0.1, 0.2, 0.1, 0.2, None]
    if format == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert list(rows[0]) == ["norm", "batch", "seed", "status", "test_error", "run"]
        assert [(row["norm"], row["seed"]) for row in rows] == [
            ("gn", "0"), ("gn", "1"), ("bn", "0"), ("bn", "1"), ("bn", "2"),
        ]  # fmt: skip
        assert (rows[4]["status"], rows[4]["test_error"], rows[4]["run"]) == (
            "diverged",
            "",
            runs[4].signature,
        )
    if format == "md":
        assert f"| bn | 32 | 2 | diverged | – | {runs[4].signature} |" in text
    if format == "latex":
        assert f"gn & 32 & 0 & complete & 0.1 & {runs[0].signature} \\\\" in text
