"""Ended runs are evaluated from their final states without an optimiser step, and give the same numbers."""

from __future__ import annotations

import json

import pytest
import torch

from event_log import Log
from normbench import events
from normbench.engine.step import Step
from normbench.errors import RunFailure
from normbench.store import Store
from normbench.sweeps.get_or_train import Sweep

QUICK = [
    "model=mlp", "model.hidden=[16,16]", "steps=20", "batch=8", "data=synthetic", "data.train_size=64",
    "data.test_size=48", "data.channels=1", "data.size=8", "tracking=none", "engine.processes=1",
    "engine.device=cpu",
]  # fmt: skip
MORE = "eval.statistics=[running,batch,precise,adapt]"


@pytest.fixture
def steps_taken(monkeypatch):
    """A counter of optimiser steps."""
    taken = []
    call = Step.__call__
    monkeypatch.setattr(Step, "__call__", lambda self, number: (taken.append(number), call(self, number)))
    return taken


@pytest.fixture
def sweep(make_sweep, tmp_path):
    """A function from override words to a sweep in a store of the given name."""
    return lambda store, *words: Sweep(make_sweep(*QUICK, *words), Store(tmp_path / store))


def metrics_of(records):
    return {record.signature: record.metrics for record in records}


CASES = {
    **{key: [f"norm={key}"] for key in ("bn", "brn", "sn", "streaming", "frozen", "cbn", "power", "mabn")},
    "frozen after the end": ["norm=frozen", "norm.args.after=1"],
    "weight=wn": ["norm=bn", "weight=wn"],
    "weight=spectral": ["norm=none", "weight=spectral"],
    "dropout": ["norm=bn", "model.dropout=0.5"],
    "untracked": ["norm=bn", "norm.args.track=false"],
    "convolutions": ["norm=bn", "model=lenet5", "model.hidden=null", "steps=6"],
    "fp64": ["norm=bn", "engine.precision=fp64"],
    "scheduled momentum": ["norm=bn", "norm.momentum=linear:0.5:0.01"],
}


@pytest.mark.parametrize("words", CASES.values(), ids=CASES.keys())
def test_statistics_that_are_added_later_equal_those_of_a_run_that_asked_at_once(sweep, steps_taken, words):
    """In stacks of three."""
    words = [*words, "seed=range(3)"]
    before = sweep("later", *words).train()
    del steps_taken[:]
    later = sweep("later", *words, MORE)
    assert later.plan.headline() == "3 runs: 3 to evaluate without training"
    found = metrics_of(later.train())
    assert steps_taken == []
    assert found == metrics_of(sweep("at once", *words, MORE).train())
    assert all(found[record.signature].items() >= record.metrics.items() for record in before)
    assert sweep("later", *words, MORE).plan.headline() == "3 runs: 3 finished before, 0 to train"


def test_runs_in_banks_are_evaluated_later_with_their_own_statistics(sweep, steps_taken):
    words = ["norm=bn", "norm.momentum=0.1,0.9,cumulative", "seed=range(2)"]
    sweep("later", *words, "eval.statistics=[running]").train()
    del steps_taken[:]
    found = metrics_of(sweep("later", *words, MORE).train())
    assert steps_taken == []
    assert found == metrics_of(sweep("at once", *words, MORE).train())
    assert len({metrics["test_loss"] for metrics in found.values()}) == 6


@pytest.mark.parametrize("words", [["norm=bn", "norm.momentum=0.1,0.9"], ["norm=none"], ["norm=brn"]])
def test_averaged_weights_are_evaluated_later_from_the_final_state(sweep, steps_taken, words):
    words = [*words, "optim.ema=0.8", "seed=range(2)"]
    more = "eval.statistics=[running,ema_copy,ema_average,ema_precise]"
    sweep("later", *words, "eval.statistics=[running]").train()
    del steps_taken[:]
    found = metrics_of(sweep("later", *words, more).train())
    assert steps_taken == []
    assert found == metrics_of(sweep("at once", *words, more).train())
    assert all(metrics["test_loss@ema_copy"] != metrics["test_loss"] for metrics in found.values())


def test_a_curve_needs_training_and_adds_a_file(sweep, steps_taken):
    [before] = sweep("one").train()
    dense = sweep("one", "eval.every=5")
    assert dense.plan.headline() == "1 run: 1 to train in 1 stack"
    assert dense.plan.notes == (
        "1 finished run must train again: asked for a curve with an evaluation every 5 steps",
    )
    [after] = dense.train()
    assert (after.signature, after.metrics) == (before.signature, before.metrics)
    curve = dense.store.history(after.signature)
    assert [point["step"] for point in curve if "test_error" in point] == [5, 10, 15, 20]
    assert sweep("one", "eval.every=10").plan.headline() == "1 run: 1 finished before, 0 to train"
    assert sweep("one", "eval.every=20").plan.headline() == "1 run: 1 finished before, 0 to train"


def test_steps_to_a_new_target_are_read_from_the_curve(sweep, steps_taken):
    sweep("one", "eval.every=5").train()
    del steps_taken[:]
    [record] = sweep("one", "eval.every=5", "eval.target=1.0").train()
    assert steps_taken == []
    assert record.metrics["steps_to_1"] == 5
    [both] = sweep("two", "eval.every=5", "eval.target=[1.0,0.0]").train()
    assert (both.metrics["steps_to_1"], both.metrics["steps_to_0"]) == (5, None)


def test_a_run_with_two_evaluations_trains_once_for_both(sweep, steps_taken):
    records = sweep(
        "one", "eval.every=4,6", "eval.statistics=[running],[precise]", "eval.target=0.5,1"
    ).train()
    assert len(steps_taken) == 20
    assert len({record.signature for record in records}) == 1
    assert {"test_error@precise", "steps_to_0.5", "steps_to_1"} <= records[0].metrics.keys()
    assert "test_error@batch" not in records[0].metrics


def test_results_and_tables_of_ended_runs_are_those_of_runs_that_asked_at_once(sweep, steps_taken):
    words = ["norm=bn", "seed=range(2)"]
    more = [
        "eval.statistics=[running,adapt:8:16]", "eval.corruptions=[contrast:3,gaussian_noise:5]",
        "eval.metrics=[ece,temperature,confusion]",
    ]  # fmt: skip
    sweep("later", *words).train()
    del steps_taken[:]
    later = sweep("later", *words, *more)
    assert later.plan.notes == (
        "2 finished runs will be evaluated without training: asked for statistics adapt:8:16; corruptions "
        "contrast:3, gaussian_noise:5; metrics ece, temperature, confusion",
    )
    found = later.train()
    assert steps_taken == []
    for record, whole in zip(found, sweep("at once", *words, *more).train(), strict=True):
        assert record.metrics.items() >= whole.metrics.items()
        assert record.tables == whole.tables
        assert "test_temperature/contrast:3@adapt:8:16" in record.metrics
        assert sum(map(sum, record.tables["test_confusion/gaussian_noise:5"])) == 48
    assert sweep("later", *words, *more).plan.headline() == "2 runs: 2 finished before, 0 to train"


def test_a_diverged_run_has_null_for_every_result(sweep, steps_taken):
    words = ["norm=none", "optim.lr=1e30"]
    more = ["eval.corruptions=[contrast:3]", "eval.metrics=[ece,confusion]"]
    sweep("one", *words).train()
    [record] = sweep("one", *words, *more).train()
    assert record.metrics["test_ece/contrast:3"] is record.metrics["test_error/contrast:3@batch"] is None
    assert record.tables["test_confusion/contrast:3"] is None
    assert sweep("one", *words, *more).plan.headline() == "1 run: 1 finished before, 0 to train"


def test_without_weights_more_statistics_need_training(sweep, steps_taken):
    sweep("one", "keep_weights=false").train()
    again = sweep("one", MORE)
    assert again.plan.notes == (
        "1 finished run must train again: asked for statistics precise, adapt, and its weights were not kept",
    )
    [record] = again.train()
    assert record.metrics == sweep("two", MORE).train()[0].metrics
    assert record.additions[0].provenance["trained_again"]


def test_a_diverged_run_has_no_statistics_and_is_not_trained_for_them(sweep, steps_taken):
    words = ["norm=none", "optim.lr=1e30"]
    [record] = sweep("one", *words).train()
    assert record.status == "diverged"
    del steps_taken[:]
    [record] = sweep("one", *words, MORE).train()
    assert steps_taken == []
    assert record.metrics["test_error@precise"] is None


def test_a_stack_that_cannot_be_evaluated_is_halved(sweep, monkeypatch):
    from normbench.sweeps import evaluation

    words = ["norm=bn", "seed=range(3)"]
    sweep("one", *words).train()
    whole = evaluation.evaluate_again

    def short_of_memory(specs, *args):
        if len(specs) > 1:
            raise torch.OutOfMemoryError("no memory")
        return whole(specs, *args)

    monkeypatch.setattr(evaluation, "evaluate_again", short_of_memory)
    assert all("test_error@precise" in record.metrics for record in sweep("one", *words, MORE).train())


def test_a_damaged_final_state_is_an_error_that_names_the_run(sweep):
    asked = sweep("one")
    [record] = asked.train()
    asked.store.weights_file(record.signature).write_bytes(b"nonsense")
    with pytest.raises(
        RunFailure, match=f"run {record.signature} cannot be evaluated: .*cannot be read.*remove it"
    ):
        sweep("one", MORE).train()


def test_an_evaluation_is_announced(sweep):
    sweep("one").train()
    log = Log()
    sweep("one", MORE, "seed=0,1").train([log])
    [evaluated] = log.of(events.RunEvaluated)
    assert set(evaluated.added) == {
        f"test_{kind}@{s}" for kind in ("loss", "error") for s in ("precise", "adapt")
    }
    [started] = [event for event in log.events if isinstance(event, events.SweepStarted)]
    assert (started.runs, started.finished, started.evaluations, started.stacks) == (2, 0, 1, 1)


def test_final_states_are_kept_as_asked(sweep, monkeypatch):
    from normbench.sweeps import keep_weights

    for number, (words, limit, kept) in enumerate(
        [
            ([], 2**24, True),
            ([], 10, False),
            (["keep_weights=true"], 10, True),
            (["keep_weights=false"], 2**24, False),
        ]
    ):
        monkeypatch.setattr(keep_weights, "KEPT_PER_RUN", limit)
        asked = sweep(f"store {number}", *words)
        [record] = asked.train()
        assert asked.store.weights_file(record.signature).exists() == kept


def test_the_plan_shows_the_bytes_of_final_states(sweep):
    asked = sweep("one", "seed=range(4)")
    [line] = asked.weights_lines()
    asked.train()
    assert line == f"final states: {asked.store.kept_bytes() / 2**20:,.1f} MiB for 4 runs"


def test_a_final_state_contains_no_code(sweep):
    asked = sweep("one")
    [record] = asked.train()
    content = asked.store.weights_file(record.signature).read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header["__metadata__"]["signature"] == record.signature
    assert sum(
        end - begin for begin, end in (t["data_offsets"] for k, t in header.items() if k[0] != "_")
    ) + 8 + int.from_bytes(content[:8], "little") == len(content)
