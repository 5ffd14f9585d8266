"""Validation metrics: of images that were not trained on, wherever test metrics are, for every source."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from normbench import data
from normbench.engine.evaluate_again import evaluate_again
from normbench.engine.train import train_stack
from normbench.store import Store
from normbench.sweeps.get_or_train import train as get_or_train

CPU = torch.device("cpu")
SOURCES = ("running", "batch", "precise", "adapt")
QUICK = ["model=mlp", "model.hidden=[32]", "batch=16", "steps=40", "data.valid=0.2", "tracking=none"]
ALL = [*QUICK, "eval.every=20", f"eval.statistics=[{','.join(SOURCES)}]"]


def names(split):
    return {
        f"{split}_{kind}" + ("" if s == "running" else f"@{s}") for kind in ("loss", "error") for s in SOURCES
    }


def test_every_evaluation_and_every_source_has_both_splits(make_spec):
    spec = make_spec(*ALL)
    (result,) = train_stack([spec], data.load(spec.data), CPU)
    assert {name for name in result.metrics if name.startswith("valid_")} == names("valid")
    assert {name for name in result.metrics if name.startswith("test_")} == names("test")
    evaluated = [point for point in result.history if "test_error" in point]
    assert [point["step"] for point in evaluated] == [20, 40]
    assert all(point["valid_loss"] is not None for point in evaluated)


@pytest.mark.parametrize("norm", ["bn", "gn", "ghost"])
def test_validation_metrics_are_test_metrics_of_the_validation_images(make_spec, norm):
    """The same run, with the splits swapped at evaluation."""
    ghost = ["norm.args.ghost_size=4"] if norm == "ghost" else []
    specs = [make_spec(*ALL, f"norm={norm}", *ghost, f"seed={seed}") for seed in (3, 1)]
    dataset = data.load(specs[0].data)
    results = train_stack(specs, dataset, CPU)
    swapped = replace(
        dataset, test_images=dataset.valid_images, test_labels=dataset.valid_labels,
        valid_images=dataset.test_images, valid_labels=dataset.test_labels,
    )  # fmt: skip
    states = [result.final_state for result in results]
    for result, again in zip(
        results, evaluate_again(specs, states, swapped, CPU, specs[0].eval.conditions), strict=True
    ):
        for name in names("test"):
            assert again[name] == result.metrics[name.replace("test_", "valid_")]
            assert again[name.replace("test_", "valid_")] == result.metrics[name]


def test_test_metrics_do_not_depend_on_the_validation_split_being_measured(make_spec):
    spec = make_spec(*ALL)
    dataset = data.load(spec.data)
    without = replace(dataset, valid_images=dataset.valid_images[:0], valid_labels=dataset.valid_labels[:0])
    (one,), (other,) = train_stack([spec], dataset, CPU), train_stack([spec], without, CPU)
    assert other.metrics == {k: v for k, v in one.metrics.items() if not k.startswith("valid_")}


def test_banks_have_validation_metrics_of_their_own(make_spec):
    specs = [make_spec(*QUICK, f"norm.momentum={momentum}") for momentum in (0.1, 0.01)]
    dataset = data.load(specs[0].data)
    together = train_stack(specs, dataset, CPU)
    for spec, banked in zip(specs, together, strict=True):
        (alone,) = train_stack([spec], dataset, CPU)
        assert banked.metrics == alone.metrics
    assert together[0].metrics["valid_loss"] != together[1].metrics["valid_loss"]


def test_a_split_that_fills_no_batch_has_no_batch_statistics(make_spec):
    spec = make_spec(*ALL, "batch=64", "data.valid=0.03")
    (result,) = train_stack([spec], data.load(spec.data), CPU)
    assert result.metrics["valid_error@batch"] is None
    assert result.metrics["valid_error"] is not None
    assert result.metrics["test_error@batch"] is not None


def test_a_diverged_run_has_no_validation_metrics_and_its_neighbours_keep_theirs(make_spec):
    words = [*QUICK, "norm=none", "optim.lr_scaling=none"]
    calm, wild, other = (
        make_spec(*words, "optim.lr=0.05"),
        make_spec(*words, "optim.lr=1e6"),
        make_spec(*words, "optim.lr=0.01"),
    )
    dataset = data.load(calm.data)
    mixed, clean = train_stack([calm, wild], dataset, CPU), train_stack([calm, other], dataset, CPU)
    assert mixed[1].diverged_at is not None
    assert mixed[1].metrics["valid_error"] is None
    assert mixed[0].history == clean[0].history


def test_sources_asked_for_later_come_with_validation_metrics(make_sweep, tmp_path):
    store = Store(tmp_path / "results")
    words = [*QUICK, "engine.processes=1", "engine.lanes=1"]
    get_or_train(make_sweep(*words, "eval.statistics=[running]"), store)
    (record,) = get_or_train(make_sweep(*words, f"eval.statistics=[{','.join(SOURCES)}]"), store)
    (at_once,) = train_stack([make_sweep(*ALL)[0].spec], data.load(make_sweep(*ALL)[0].spec.data), CPU)
    assert len(record.additions) == 1
    assert {n: record.metrics[n] for n in names("valid")} == pytest.approx(
        {n: at_once.metrics[n] for n in names("valid")}
    )
