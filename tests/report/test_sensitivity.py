"""What a table says of its seeds: how many runs it has, and which difference they can see."""

from __future__ import annotations

from itertools import combinations
from statistics import median, stdev

import pytest

from normbench.report.contrasts import paired
from normbench.report.sensitivity import sensitivity
from normbench.report.tables import build_table

ERRORS = {"bn": (0.10, 0.12, 0.13, 0.16), "gn": (0.20, 0.21, 0.25, 0.24), "in": (0.30, 0.33)}


@pytest.fixture
def runs(make):
    return [
        make(error, norm=norm, seed=seed, metrics={"test_error": error, "test_loss": 2.0})
        for norm, errors in ERRORS.items()
        for seed, error in enumerate(errors)
    ]


def test_the_number_of_seeds_is_that_of_most_cells(runs) -> None:
    [line] = sensitivity(build_table(runs, "norm", "batch", "test_error"), 0.025)
    assert line.startswith("With 4 seeds a paired test can see")


def test_a_metric_without_a_spread_has_no_line_and_runs_count_once(runs) -> None:
    table = build_table(runs, "norm", "batch,metric", ["test_error", "test_loss"])
    assert [line for line in sensitivity(table, 0.025) if "test_loss" in line] == []
    assert table.notes[-1].startswith("10 runs on digits; seeds 0 to 3;")


def test_the_spread_is_the_median_over_all_pairs_of_rows(runs) -> None:
    by_seed = [dict(enumerate(errors)) for errors in ERRORS.values()]
    spread = median(stdev(paired(a, b)) for a, b in combinations(by_seed, 2))
    [line] = sensitivity(build_table(runs, "norm", "batch", "test_error"), 0.025)
    assert f"median sd of the differences {100 * spread:.2f})" in line
