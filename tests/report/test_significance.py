from __future__ import annotations

from dataclasses import replace

import pytest
import scipy.stats

from normbench.report.cells import Table
from normbench.report.tables import build_table


def best(table: Table) -> set[tuple[str, str]]:
    return {place for place, cell in table.cells.items() if cell.best}


def test_the_best_of_a_column_is_marked_where_the_paired_test_says_so(runs) -> None:
    table = build_table(runs, "norm", "batch", "test_error")
    assert best(table) == {("bn", "32"), ("gn", "2")}
    assert any(note.startswith("Bold: better than the runner-up") for note in table.notes)


def test_a_better_mean_alone_is_not_marked(make) -> None:
    noisy = {"bn": (0.010, 0.050, 0.020), "gn": (0.040, 0.030, 0.060)}
    runs = [make(v, norm=norm, seed=s) for norm, values in noisy.items() for s, v in enumerate(values)]
    table = build_table(runs, "norm", "batch", "test_error")
    assert scipy.stats.ttest_rel(noisy["bn"], noisy["gn"]).pvalue > 0.05
    assert best(table) == set()
    assert any(note.startswith("In no column") for note in table.notes)


def test_holm_over_the_columns_can_take_a_mark_away(make) -> None:
    close = {"bn": (0.020, 0.022, 0.025), "gn": (0.025, 0.031, 0.036)}
    p = scipy.stats.ttest_rel(close["bn"], close["gn"]).pvalue
    assert 0.05 / 3 < p < 0.05

    def runs(batches):
        return [
            make(value, norm=norm, batch=batch, seed=seed)
            for batch in batches
            for norm, values in close.items()
            for seed, value in enumerate(values)
        ]

    assert best(build_table(runs([32]), "norm", "batch", "test_error")) == {("bn", "32")}
    assert best(build_table(runs([32, 16, 8]), "norm", "batch", "test_error")) == set()


def test_fewer_than_three_seeds_claim_nothing_and_say_so(make) -> None:
    errors = {"bn": (0.1, 0.1003), "gn": (0.9, 0.9001)}
    runs = [make(v, norm=norm, seed=s) for norm, values in errors.items() for s, v in enumerate(values)]
    table = build_table(runs, "norm", "batch", "test_error")
    assert best(table) == set()
    assert "Fewer than 3 seeds in some cells: no significance is claimed there." in table.notes


def test_survivors_of_a_divergence_are_never_marked(make) -> None:
    runs = [make(0.02 + 0.001 * s, norm="bn", seed=s) for s in range(3)]
    runs += [make(0.50 + 0.002 * s, norm="gn", seed=s) for s in range(3)]
    assert best(build_table(runs, "norm", "batch", "test_error")) == {("bn", "32")}
    runs.append(make(None, norm="bn", seed=3, status="diverged"))
    assert best(build_table(runs, "norm", "batch", "test_error")) == set()


def test_pooled_seeds_are_not_paired(make) -> None:
    runs = [make(0.50 + 0.002 * s, norm="gn", seed=s) for s in range(3)]
    for lr in (0.1, 0.2):
        runs += [make(0.02 + 0.001 * s, norm="bn", seed=s, optim={"lr": lr}) for s in range(3)]
    assert best(build_table(runs, "norm", "batch", "test_error")) == set()


def test_more_is_better_for_speed(make) -> None:
    speed = {"bn": (100.0, 101.0, 99.0), "gn": (50.0, 52.0, 49.0)}
    runs = [
        make(0.1, norm=norm, seed=seed, metrics={"steps_per_s": value})
        for norm, values in speed.items()
        for seed, value in enumerate(values)
    ]
    assert best(build_table(runs, "norm", "batch", "steps_per_s")) == {("bn", "32")}
    assert best(build_table(runs, "norm", "batch", "test_error")) == set()


def test_the_mark_never_goes_to_a_cell_that_is_worse_over_the_common_seeds(make) -> None:
    """bn has the better mean only because of easy seeds that gn lacks; over those of both it is worse."""
    errors = {
        "bn": {0: 0.300, 1: 0.302, 2: 0.301, 3: 0.303, 10: 0.01, 11: 0.01, 12: 0.01, 13: 0.01, 14: 0.01},
        "gn": {0: 0.200, 1: 0.203, 2: 0.202, 3: 0.204},
    }
    runs = [make(v, norm=norm, seed=s) for norm, values in errors.items() for s, v in values.items()]
    table = build_table(runs, "norm", "batch", "test_error")
    assert table.cells["bn", "32"].summary.mean < table.cells["gn", "32"].summary.mean
    assert best(table) == set()


@pytest.mark.parametrize(
    ("metric", "winner"), [("test_loss", "bn"), ("steps_per_s", "gn"), ("weight_norm", None)]
)
def test_the_mark_follows_the_direction_of_the_metric(make, metric, winner) -> None:
    values = {"bn": (1.0, 1.1, 1.05), "gn": (2.0, 2.15, 2.1)}
    runs = [
        make(None, norm=norm, seed=seed, metrics={metric: value})
        for norm, row in values.items()
        for seed, value in enumerate(row)
    ]
    assert best(build_table(runs, "norm", "batch", metric)) == ({(winner, "32")} if winner else set())


def test_cells_without_a_common_seed_are_not_compared(make) -> None:
    runs = [make(0.02 + 0.001 * s, norm="bn", seed=s) for s in range(3)]
    runs += [make(0.50 + 0.002 * s, norm="gn", seed=10 + s) for s in range(3)]
    assert best(build_table(runs, "norm", "batch", "test_error")) == set()


def test_one_far_worse_seed_of_a_third_row_takes_no_mark_away(make) -> None:
    runs = [make(0.02 + 0.001 * s, norm="bn", seed=s) for s in range(3)]
    runs += [make(0.50 + 0.002 * s, norm="gn", seed=s) for s in range(3)]
    runs.append(make(0.9, norm="ln_chw", seed=0))
    assert best(build_table(runs, "norm", "batch", "test_error")) == {("bn", "32")}


def test_times_that_runs_of_a_stack_share_are_never_marked(make) -> None:
    def run(norm: str, seed: int, speed: float):
        made = make(0.1, norm=norm, seed=seed)
        return replace(made, timing={"steps_per_s": speed}, provenance={"stack_size": 8})

    runs = [run("bn", seed, 100.0 + seed / 1e3) for seed in range(8)]
    runs += [run("gn", seed, 50.0) for seed in range(8)]
    table = build_table(runs, "norm", "batch", "steps_per_s")
    assert table.cells["bn", "32"].summary.n == 8
    assert best(table) == set()
    assert "Runs of one stack share its time: no significance is claimed." in table.notes
