"""The table that trackers show at the end of a sweep, and the tags of a reproduced table."""

from __future__ import annotations

import pytest

from normbench import papers
from normbench.cli import run
from normbench.commands.sweep_summary import sweep_summary
from normbench.commands.tags import tagged
from normbench.record import COMPLETE, DIVERGED, Record
from normbench.store import Store


def record(norm: str, seed: int, status: str = COMPLETE, **metrics: float | None) -> Record:
    spec = {"norm": {"name": norm}, "batch": 2, "workers": 1, "model": {"name": "mlp"}, "seed": seed}
    return Record(f"{norm}{seed}", spec, status, metrics, {"train_s": 2.0}, {}, {"asked": f"{norm}{seed}"})


def test_there_is_one_row_per_cell_and_metric_with_mean_and_sd() -> None:
    records = [record("bn", seed, test_error=0.1 * (seed + 1)) for seed in range(3)]
    records += [record("gn", 0, test_error=0.5), record("gn", 1, DIVERGED, test_error=0.9)]
    made = sweep_summary(records, ("norm",))
    assert made is not None
    assert made.columns[:5] == ("cell", "norm", "metric", "mean ± sd", "n")
    rows = [dict(zip(made.columns, row, strict=True)) for row in made.rows]
    assert [(row["cell"], row["metric"], row["n"]) for row in rows] == [
        ("bn b2 mlp", "test_error", 3),
        ("gn b2 mlp", "test_error", 1),
        ("bn b2 mlp", "train_s", 3),
        ("gn b2 mlp", "train_s", 1),
    ]
    bn, gn, *_ = rows
    assert bn["mean ± sd"] == "20.00 ± 10.00 %"
    assert (bn["mean"], bn["sd"]) == (pytest.approx(0.2), pytest.approx(0.1))
    assert bn["ci95_low"] < 0.2 < bn["ci95_high"]
    assert (gn["mean ± sd"], gn["sd"], gn["diverged"]) == ("50.00 %", None, 1)


def test_without_a_complete_run_there_is_no_table() -> None:
    assert sweep_summary([record("bn", 0, DIVERGED, test_error=0.9)], ()) is None


def test_a_metric_that_only_some_cells_have_is_empty_elsewhere() -> None:
    made = sweep_summary([record("bn", 0, test_error=0.1, nll=1.0), record("gn", 0, test_error=0.1)], ())
    assert made is not None
    rows = {(row[0], row[1]): row[2:5] for row in made.rows}
    assert rows["gn b2 mlp", "nll"] == ("", 0, None)


def test_reproduced_runs_carry_the_table_and_its_scale_as_tags(trainer) -> None:
    run(["reproduce", "wu2018/batch_size", "norm=bn", "batch=32", "seed=0", "tracking.tags=[mine]"])
    [found] = Store.default().records()
    assert found.spec["tracking"]["tags"] == ["mine", "wu2018/batch_size", "tiny"]


def test_every_name_of_a_table_and_scale_is_a_tag_that_wandb_accepts() -> None:
    names = [(name, scale) for name in papers.names() for scale in papers.load(name).scales]
    for name, scale in (*names, ("x" * 90, "tiny")):
        tags = tagged({"tracking": {"tags": []}}, name, scale)["tracking"]["tags"]
        assert all(1 <= len(tag) <= 64 for tag in tags)


def test_tags_of_the_environment_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_TAGS", "a,b")
    assert tagged({"tracking": {"tags": []}}, "t", "tiny")["tracking"]["tags"] == ["a", "b", "t", "tiny"]
