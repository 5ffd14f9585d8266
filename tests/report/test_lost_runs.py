"""Diverged, failed, missing and impossible runs in one table: golden in all five formats, and in words."""

from __future__ import annotations

import csv
import io
import json

import pytest
from rich.console import Console

from normbench import papers
from normbench.papers.catalogue import parse
from normbench.report.missing import lines_on
from normbench.report.render import render
from normbench.report.terminal import renderable

TABLE = """
title: t
scales:
  tiny:
    rows: [norm]
    cols: [batch, metric]
    metrics: [test_error, test_loss]
    grids: [{norm: [bn, gn], batch: [2, 32], seed: [0, 1, 2]}]
"""


@pytest.mark.parametrize("suffix", ["md", "tex", "csv", "json", "txt"])
def test_every_form_of_a_table_with_lost_runs_is_the_golden_one(lossy, golden, suffix) -> None:
    form = {"tex": "latex"}.get(suffix, suffix)
    if form == "txt":
        console = Console(width=100, record=True, color_system=None, file=io.StringIO())
        console.print(renderable(lossy, console))
        text = "\n".join(line.rstrip() for line in console.export_text().splitlines()) + "\n"
    else:
        text = render(lossy, form)
    golden(f"table.lossy.{suffix}", text)


@pytest.mark.parametrize("form", ["md", "latex"])
def test_every_lost_run_is_counted_in_its_cell(lossy, form) -> None:
    rows = [line.replace("|", "&").strip("&\\ ") for line in render(lossy, form).splitlines()]
    cells = {row.partition("&")[0].strip(): [text.strip() for text in row.split("&")[1:]] for row in rows}
    assert cells["none"] == ["–" if form == "md" else "--", "1/1 diverged"]
    assert cells["rms"][1] == "2/2 failed"
    assert cells["frn"][0] == "2/2 missing"
    assert cells["in"][0] == "n/a"
    assert cells["sn"][0].endswith("(1/3 failed)")
    assert (
        cells[r"ln_chw" if form == "md" else r"ln\_chw"][0] == "5.00 (1/4 diverged, 1/4 failed, 1/4 missing)"
    )


def test_the_numbers_of_lost_runs_stand_in_csv_and_json(lossy) -> None:
    rows = {(row["norm"], row["batch"]): row for row in csv.DictReader(io.StringIO(render(lossy, "csv")))}
    counts = {
        place: [row[how] for how in ("n", "diverged", "failed", "missing")] for place, row in rows.items()
    }
    assert counts["ln_chw", "2"] == ["1", "1", "1", "1"]
    assert counts["frn", "2"] == ["0", "0", "0", "2"]
    assert counts["none", "32"] == ["0", "1", "0", "0"]
    assert counts["rms", "32"] == ["0", "0", "2", "0"]
    tree = json.loads(render(lossy, "json"))
    found = {(cell["row"], cell["col"]): cell for cell in tree["cells"]}
    assert found["in", "2"]["impossible"] == "instance norm needs more than one position"
    assert found["ln_chw", "2"]["missing"] == 1


def test_missing_runs_are_named_by_what_sets_them_apart_from_the_others(make) -> None:
    there = [make(0.1, norm="bn", batch=batch) for batch in (2, 4)]
    missing = [make(None, norm="frn", batch=batch, status="missing") for batch in (2, 4)]
    expected = "2 of 4 runs are missing: norm=frn batch=2 (seed 0), norm=frn batch=4 (seed 0)"
    assert lines_on(missing, there) == [expected]
    assert lines_on([], there) == []


def test_a_paper_table_counts_the_runs_that_its_grid_asks_for(make) -> None:
    loss = {"test_loss": 0.5}
    runs = [make(0.1, norm="bn", batch=batch, seed=s, metrics=loss) for batch in (2, 32) for s in range(3)]
    runs += [make(0.1, norm="gn", batch=2, seed=1, metrics=loss)]
    made = papers.report(parse("a/b", TABLE), "tiny", runs)
    counts = {place: cell.missing for place, cell in made.table.cells.items()}
    assert counts == {
        ("bn", f"{batch} · {metric}"): 0 for batch in (2, 32) for metric in ("test_error", "test_loss")
    } | {
        ("gn", f"{batch} · {metric}"): lost
        for batch, lost in ((2, 2), (32, 3))
        for metric in ("test_error", "test_loss")
    }
    [warning] = [line for line in made.table.warnings if "missing" in line]
    assert warning == (
        "5 of 12 runs are missing: norm=gn batch=2 (seeds 0, 2), norm=gn batch=32 (seeds 0 to 2)"
    )


def test_an_impossible_cell_of_a_paper_table_is_not_missing(make) -> None:
    runs = [make(0.1, norm="bn", batch=2, seed=seed) for seed in range(3)]
    impossible = {("gn", "2"): "no groups", ("bn", "2"): "it has runs"}
    made = papers.report(parse("a/b", TABLE), "tiny", runs, impossible=impossible)
    cell = made.table.cells["gn", "2 · test_error"]
    assert (cell.impossible, cell.missing) == ("no groups", 0)
    assert not made.table.cells["bn", "2 · test_error"].impossible
    assert any(note.startswith("n/a in gn / 2 · test_error") for note in made.table.notes)
    [warning] = [line for line in made.table.warnings if "missing" in line]
    assert warning.startswith("6 of 9 runs are missing")
    assert made.to_json()["impossible"] == [[["gn", "2"], "no groups"], [["bn", "2"], "it has runs"]]
