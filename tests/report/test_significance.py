from __future__ import annotations

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
