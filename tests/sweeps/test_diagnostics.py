"""Diagnostics that are asked for later: read from the final state, or the run trains again."""

from __future__ import annotations

import json

import pytest

from normbench.engine.step import Step
from normbench.errors import InputError
from normbench.store import Store
from normbench.sweeps.get_or_train import Sweep

QUICK = [
    "model=mlp", "model.hidden=[16,16]", "steps=20", "batch=8", "data=synthetic", "data.train_size=64",
    "data.test_size=48", "data.channels=1", "data.size=8", "tracking=none", "engine.processes=1",
    "engine.device=cpu", "seed=range(3)", "eval.every=4",
]  # fmt: skip
FROM_STATE = (
    "running_error,inconsistency,centering,dead_channels,kurtosis,percentiles,affine_histogram,small_gamma,"
    "mixing_weights,weight_norm,effective_lr,distance,fluctuation"
)


@pytest.fixture
def steps_taken(monkeypatch):
    """The number of optimiser steps of stacks, counted."""
    taken = []
    call = Step.__call__
    monkeypatch.setattr(Step, "__call__", lambda self, number: (taken.append(number), call(self, number)))
    return taken


@pytest.fixture
def sweep(make_sweep, tmp_path):
    """A function from override words to a sweep in a store of the given name."""
    return lambda store, *words: Sweep(make_sweep(*QUICK, *words), Store(tmp_path / store))


@pytest.mark.parametrize(
    "words", [["norm.momentum=0.1,0.3"], ["norm=brn"], ["norm=sn"], ["norm=gn"], ["model.init=lsuv"]], ids=str
)
def test_what_follows_from_a_final_state_is_read_later_without_training(sweep, steps_taken, words):
    """In a stack of all runs, with the numbers and layers of runs that asked at once."""
    asked = f"diagnostics=[{FROM_STATE}]"
    sweep("later", *words).train()
    steps_taken.clear()
    later = sweep("later", *words, asked)
    assert (later.plan.to_train, later.plan.to_evaluate) == (0, later.plan.runs)
    found = later.train()
    assert steps_taken == []
    at_once = sweep("at once", *words, asked)
    for record, other in zip(found, at_once.train(), strict=True):
        assert record.metrics == other.metrics
        rows = later.store.diagnostics(record.signature)
        assert rows == tuple(r for r in at_once.store.diagnostics(other.signature) if r["step"] == 20)
    again = sweep("later", *words, asked)
    assert again.plan.finished == again.plan.runs
    assert later.store.damaged == []


def test_series_need_training_again_which_the_plan_says(sweep):
    first = sweep("s").train()
    for words, lack in (
        (["diagnostics=[smoothness]"], "diagnostics smoothness"),
        (["diagnostics=[weight_norm:5,distance]"], "diagnostics weight_norm:5"),
        (["diagnostics=[gradient_norm:5]"], "diagnostics gradient_norm:5"),
    ):
        planned = sweep("s", *words)
        assert planned.plan.to_train == 3
        assert list(planned.plan.notes) == [f"3 finished runs must train again: asked for {lack}"]
        records = planned.train()
        assert sweep("s", *words).plan.finished == 3
    assert [r.metrics["test_error"] for r in records] == [r.metrics["test_error"] for r in first]
    curve = planned.store.history(records[0].signature)
    at = {
        name: [p["step"] for p in curve if name in p] for name in ("weight_norm/total", "gradient_norm/norm")
    }
    assert at == {"weight_norm/total": [5, 10, 15, 20], "gradient_norm/norm": [5, 10, 15, 20]}
    assert [p["step"] for p in curve if "smoothness/loss_range" in p] == list(range(1, 21))
    rows = planned.store.diagnostics(records[0].signature)
    assert {row["step"] for row in rows if row["name"] == "gradient_norm/norm"} == {5, 10, 15, 20}
    assert sweep("s", "diagnostics=[weight_norm:10]").plan.finished == 3  # every second of those that it has


def test_a_run_without_kept_weights_trains_again(sweep):
    sweep("s", "keep_weights=false").train()
    planned = sweep("s", "keep_weights=false", "diagnostics=[running_error,fluctuation]")
    assert list(planned.plan.notes) == [
        "3 finished runs must train again: asked for diagnostics running_error"
    ]


def test_a_diverged_run_gets_none_and_does_not_train_again(sweep, steps_taken):
    sweep("s", "optim.lr=1e30").train()
    steps_taken.clear()
    (record, *_) = sweep("s", "optim.lr=1e30", "diagnostics=[running_error,distance]").train()
    assert steps_taken == []
    assert record.metrics["running_error/mean_max"] is None
    assert sweep("s", "optim.lr=1e30", "diagnostics=[running_error,distance]").plan.finished == 3


def test_one_run_asked_for_with_different_diagnostics_gets_all_of_them(sweep):
    records = sweep("s", "diagnostics=[weight_norm],[distance]").train()
    assert {"weight_norm/total", "distance/total"} <= records[0].metrics.keys()


@pytest.mark.parametrize(
    ("asked", "said"), [("percentiles@fc7", "unknown site of percentiles 'fc7'; nearest"),
                        ("percentiles@fc2.16", "unknown channel of site fc2 '16'")],
)  # fmt: skip
def test_a_unit_that_the_network_does_not_have_is_refused_before_anything_is_written(
    sweep, tmp_path, asked, said
):
    with pytest.raises(InputError, match=said):
        sweep("s", f"diagnostics=[{asked}]").train()
    assert not (tmp_path / "s").exists()


def test_a_torn_file_of_diagnostics_is_left_out_and_noted(sweep):
    made = sweep("s", "diagnostics=[weight_norm]")
    (record, *_) = made.train()
    file = made.store.run_folder(record.signature) / "diagnostics.jsonl"
    good = file.read_text()
    file.write_text(good + '{"step": 3, "na' + "\n[]\n" + json.dumps({"step": "x"}) + "\n")
    assert [json.loads(line) for line in good.splitlines()] == list(made.store.diagnostics(record.signature))
    assert len(made.store.damaged) == 3
