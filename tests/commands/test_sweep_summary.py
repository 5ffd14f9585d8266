"""The table that trackers show at the end of a sweep, and the tags of a reproduced table."""

from __future__ import annotations

import sys

import pytest

from normbench import papers, tracking
from normbench.cli import run
from normbench.commands.sweep_summary import sweep_summary
from normbench.commands.table_runs import TableRuns
from normbench.commands.tags import tagged
from normbench.commands.training import Tally
from normbench.events import Event
from normbench.record import COMPLETE, DIVERGED, Record
from normbench.store import Store
from normbench.tracking.sweep_summary import Summarize, SweepSummary


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


def test_figures_are_drawn_from_the_runs_and_a_fault_costs_no_row() -> None:
    records = [record("bn", seed, test_error=0.1) for seed in range(2)]
    made = sweep_summary(records, (), lambda runs: {"f": b"%d runs" % len(runs)})
    broken = sweep_summary(records, (), lambda runs: 1 / 0)
    assert made is not None and broken is not None
    assert (made.figures, made.undrawn) == ({"f": b"2 runs"}, "")
    assert (broken.figures, broken.undrawn) == ({}, "ZeroDivisionError: division by zero")
    assert made.rows == broken.rows


def test_the_summary_of_a_reproduced_table_has_its_figures(monkeypatch: pytest.MonkeyPatch, trainer) -> None:
    made: list[SweepSummary | None] = []

    def observers(*words: object, summarize: Summarize, **others: object) -> list[object]:
        class AtTheEnd(Tally):
            def notify(self, event: Event) -> None:
                super().notify(event)
                if len(self.ended) == 4:
                    made.append(summarize(Store.default().records(), ("norm", "batch")))

        return [AtTheEnd()]

    monkeypatch.setattr(tracking, "observers", observers)
    run(["reproduce", "wu2018/batch_size", "norm=bn,gn", "batch=32,2", "seed=0"])
    [summary] = made
    assert summary is not None and list(summary.figures) == ["error_by_batch"]
    assert summary.figures["error_by_batch"].startswith(b"\x89PNG")


def test_without_matplotlib_a_table_is_written_and_says_which_figure_it_lacks(
    monkeypatch: pytest.MonkeyPatch, trainer, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    assert run(["reproduce", "wu2018/batch_size", "norm=bn,gn", "batch=32,2", "seed=0"]) == 0
    said = capsys.readouterr().out
    assert "figure error_by_batch cannot be drawn: ModuleNotFoundError" in said
    assert list((Store.default().root / "tables").rglob("*.md"))
    runs = TableRuns(papers.load("wu2018/batch_size"), "tiny", {"seed": ["0"]}, None)
    broken = sweep_summary(Store.default().records(), (), runs._draw)
    assert broken is not None and broken.rows
    assert broken.undrawn.startswith("InputError: error_by_batch: ModuleNotFoundError")


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
