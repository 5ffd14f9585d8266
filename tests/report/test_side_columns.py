"""Differences from a baseline, and the images per statistic: golden in all five formats."""

from __future__ import annotations

import csv
import io
import json

import pytest
from rich.console import Console
from scipy.stats import ttest_rel

from normbench.errors import InputError
from normbench.report.baseline import with_differences
from normbench.report.images import with_images
from normbench.report.render import render
from normbench.report.tables import build_table
from normbench.report.terminal import renderable

FORMS = [("md", "md"), ("latex", "tex"), ("csv", "csv"), ("json", "json")]


def drawn(table, width: int = 100) -> str:
    console = Console(width=width, record=True, color_system=None, file=io.StringIO())
    console.print(renderable(table, console))
    return "\n".join(line.rstrip() for line in console.export_text().splitlines()) + "\n"


@pytest.fixture
def lossy(make, runs, numbered):
    """Two norms and their baseline; one cell lost a seed, one has a single one, one diverged."""
    runs += [make(0.05 + 0.01 * seed**2, norm="ln_chw", batch=32, total=32, seed=seed) for seed in (0, 2)]
    runs.append(make(0.06, norm="ln_chw", batch=2, total=32, seed=1))
    runs.append(make(None, norm="none", batch=32, total=32, seed=0, status="diverged"))
    missing = [make(None, norm="frn", batch=2, total=32, seed=0, status="missing")]
    return build_table(numbered(runs), "norm", "batch", "test_error", missing=missing)


@pytest.fixture
def workers(make, numbered):
    """Eight images per statistic and 32 per step, with gn beside at 32 images per statistic."""
    records = [make(0.02 + 0.001 * seed, norm="bn", batch=8, total=32, seed=seed) for seed in range(3)]
    records += [make(0.03 + 0.002 * seed, norm="gn", batch=32, total=32, seed=seed) for seed in range(3)]
    records = numbered(records)
    return with_images(build_table(records, "norm", "model", "test_error"), records)


@pytest.mark.parametrize(("form", "suffix"), FORMS)
def test_differences_are_the_golden_ones(lossy, golden, form, suffix):
    golden(f"table.baseline.{suffix}", render(with_differences(lossy, "bn"), form))


def test_differences_on_a_terminal_are_the_golden_ones(lossy, golden):
    golden("table.baseline.txt", drawn(with_differences(lossy, "bn")))


@pytest.mark.parametrize(("form", "suffix"), FORMS)
def test_images_per_statistic_are_the_golden_ones(workers, golden, form, suffix):
    golden(f"table.images.{suffix}", render(workers, form))


def test_images_per_statistic_on_a_terminal_are_the_golden_ones(workers, golden):
    golden("table.images.txt", drawn(workers))


def test_a_difference_has_the_interval_of_a_paired_t_test(lossy):
    table = with_differences(lossy, "bn")
    for col in ("2", "32"):
        cell, base = table.cells["gn", col], table.cells["bn", col]
        oracle = ttest_rel(cell.values, base.values).confidence_interval(0.95)
        n, mean, interval = cell.difference
        assert n == 3
        assert mean == pytest.approx(sum(a - b for a, b in zip(cell.values, base.values, strict=True)) / 3)
        assert interval == pytest.approx((oracle.low, oracle.high))
        assert base.difference is None


def test_only_shared_seeds_are_paired(lossy):
    table = with_differences(lossy, "bn")
    n, mean, _ = table.cells["ln_chw", "32"].difference
    assert (n, mean) == (2, pytest.approx((0.05 - 0.020 + 0.09 - 0.021) / 2))
    assert table.cells["ln_chw", "2"].difference[::2] == (1, None)
    assert table.cells["none", "32"].difference is None


def test_without_a_pair_the_note_says_what_a_pair_needs(make):
    runs = [make(0.1, norm=norm, batch=batch) for norm in ("bn", "gn") for batch in (2, 4)]
    table = with_differences(build_table(runs, "norm", (), "test_error"), "bn")
    assert not [cell for cell in table.cells.values() if cell.difference]
    assert (
        "minus bn: no cell can be paired; two cells need a seed in common, with one run each." in table.notes
    )


def test_a_column_can_be_the_baseline(lossy):
    table = with_differences(lossy, "batch=32")
    assert table.cells["bn", "2"].difference.mean == pytest.approx(0.41)
    assert table.cells["bn", "32"].difference is None
    [row] = [row for row in render(table, "md").splitlines() if row.startswith("| *minus 32* | +41.00")]
    assert row.endswith("| – |")


def test_one_of_several_keys_can_be_the_baseline(make):
    records = [
        make(0.1 * (1 + (norm == "gn")) + 0.01 * lr, norm=norm, optim={"lr": lr}, seed=0)
        for norm in ("bn", "gn")
        for lr in (1.0, 2.0)
    ]
    table = with_differences(build_table(records, "norm,optim.lr", (), "test_error"), "bn")
    assert table.cells["gn · 2", "test_error"].difference == (1, pytest.approx(0.1), None)
    other = with_differences(table, "1")
    assert other.cells["gn · 2", "test_error"].difference == (1, pytest.approx(0.01), None)


@pytest.mark.parametrize(
    ("baseline", "message"),
    [("bm", "unknown baseline 'bm'; nearest: bn"), ("norm=2", "unknown baseline 'norm=2'")],
)
def test_a_baseline_of_no_key_is_bad_input(baseline, message, lossy):
    with pytest.raises(InputError, match=message):
        with_differences(lossy, baseline)


def test_a_baseline_of_two_keys_must_name_one(make):
    records = [make(0.1, batch=batch, seed=0, workers=workers) for batch in (2, 4) for workers in (2, 4)]
    table = build_table(records, "batch", "workers", "test_error")
    with pytest.raises(
        InputError, match="--baseline 2 is a value of several keys; give batch=2 or workers=2"
    ):
        with_differences(table, "2")
    assert with_differences(table, "workers=2").cells["2", "4"].difference == (1, 0.0, None)


def test_images_are_left_out_if_the_batch_is_a_key_or_the_total(make, runs):
    table = build_table(runs, "norm", "batch", "test_error")
    assert with_images(table, runs) == table
    alone = [make(0.1, norm=norm, batch=32, seed=0) for norm in ("bn", "gn")]
    table = build_table(alone, "norm", "model", "test_error")
    assert with_images(table, alone) == table


def test_numbers_of_csv_and_json_are_in_full(lossy):
    table = with_differences(lossy, "bn")
    rows = {(row["norm"], row["batch"]): row for row in csv.DictReader(io.StringIO(render(table, "csv")))}
    assert float(rows["gn", "2"]["difference"]) == table.cells["gn", "2"].difference.mean
    assert rows["bn", "2"]["difference"] == rows["bn", "2"]["pairs"] == ""
    tree = json.loads(render(table, "json"))
    assert tree["baseline"] == "bn"
    [cell] = [cell for cell in tree["cells"] if (cell["row"], cell["col"]) == ("gn", "2")]
    assert cell["difference"] == table.cells["gn", "2"].difference.to_json()
