"""Training curves and the metrics of ended runs, and which runs have diverged."""

from __future__ import annotations

import math

import pytest
import torch

from normbench import data
from normbench.engine.curve import curve_steps, diverged_at, summary
from normbench.engine.meters import Meters, lanes_are_finite
from normbench.engine.optim import Optimizer
from normbench.engine.train import train_stack

CPU = torch.device("cpu")
QUICK = ["model=mlp", "model.hidden=[16]", "batch=32", "optim.lr_scaling=none"]


@pytest.fixture(scope="module")
def digits():
    from normbench.config.compose import compose
    from normbench.config.resolve import resolve

    (config,) = compose(["data=digits"])
    return data.load(resolve(config).spec.data)


def point(step, error=None, loss=1.0):
    test = {} if error is None else {"test_error": error, "test_loss": loss}
    return {"step": step, "train_loss": 2.0 / step, "train_error": 0.5, **test}


def test_a_curve_has_50_even_points_all_evaluations_and_the_start_of_the_last_epoch(make_spec):
    points, evaluations = curve_steps(make_spec("eval.every=30").eval, 1000, 7)
    assert evaluations == {*range(30, 1000, 30), 1000}
    assert points == {*range(20, 1001, 20)} | evaluations | {993}
    points, evaluations = curve_steps(make_spec().eval, 101, 500)
    assert evaluations == {101}
    assert points == {math.ceil(101 * i / 50) for i in range(1, 51)}
    assert curve_steps(make_spec().eval, 1, 40) == ({1}, {1})


@pytest.mark.parametrize(
    ("errors", "reached"),
    [
        ({10: 0.6, 20: 0.4, 30: 0.7, 40: 0.3, 50: 0.2}, 20),
        ({10: 0.4, 20: 0.6, 30: 0.4}, 10),
        ({10: 0.6, 20: 0.51, 30: 0.5}, 30),
        ({10: 0.6, 20: 0.51, 30: 0.501}, None),
    ],
)
def test_steps_to_target_is_the_first_evaluation_at_or_below_the_target(make_spec, errors, reached):
    history = [point(step, errors.get(step)) for step in range(5, 5 + 10 * len(errors), 5)]
    wanted = make_spec("eval.target=0.5").eval
    for diverged in (False, True):
        metrics = summary(wanted, history, 0, diverged=diverged)
        assert metrics["steps_to_0.5"] == reached
    assert "steps_to_0.5" not in summary(make_spec().eval, history, 0, diverged=False)


def test_training_metrics_are_means_over_the_last_epoch_and_test_metrics_the_last_ones(make_spec):
    history = [point(10, 0.9), point(30), point(35), point(45, 0.2, loss=0.7)]
    metrics = summary(make_spec().eval, history, 30, diverged=False)
    assert metrics["train_loss"] == pytest.approx((5 * 2 / 35 + 10 * 2 / 45) / 15)
    assert (metrics["test_error"], metrics["test_loss"]) == (0.2, 0.7)
    assert set(summary(make_spec().eval, history, 30, diverged=True).values()) == {None}


@pytest.mark.parametrize("schedule", ["step", "cosine"])
def test_the_learning_rate_of_a_point_is_that_of_its_last_step(make_spec, digits, monkeypatch, schedule):
    """The optimiser's own rates are written down at every step, and the curve has a point at every step."""
    used = []
    step = Optimizer.step

    def noting(self, gradients):
        used.append([float(block.lr) for block in self.blocks if not block.settings.weight_decay])
        step(self, gradients)

    monkeypatch.setattr(Optimizer, "step", noting)
    words = [
        *QUICK,
        "steps=40",
        "eval.every=1",
        "engine.graphs=false",  # a replayed step does not call the optimiser
        f"schedule={schedule}",
        "schedule.warmup=0.1",
        "optim.decay=weights",
    ]
    specs = [make_spec(*words, f"optim.lr={lr}") for lr in (0.1, 0.02)]
    results = train_stack(specs, digits, CPU)
    assert [p["step"] for p in results[0].history] == [*range(1, 41)]
    for lane, result in enumerate(results):
        assert [p["lr"] for p in result.history] == pytest.approx([rates[lane] for rates in used])
        assert len({p["lr"] for p in result.history}) > 3


@pytest.mark.parametrize("norm", ["none", "bn", "gn"])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_run_whose_last_update_is_not_finite_has_diverged(make_spec, digits, norm, steps):
    """All its training losses are finite. Its neighbour in the stack is not affected."""
    gamma, wild = 1e30, 0.05
    words = [*QUICK, f"norm={norm}", f"steps={steps}", "optim.momentum=0"]
    words += ["schedule=step", f"schedule.milestones=[{(steps - 1) / steps}]", f"schedule.gamma={gamma}"]
    specs = [make_spec(*words, f"optim.lr={lr}") for lr in (wild, 1e-32)]
    broken, calm = train_stack(specs, digits, CPU)
    assert all(p["train_loss"] is not None for p in broken.history)
    assert broken.diverged_at == steps
    assert set(broken.metrics.values()) == {None}
    assert calm.diverged_at is None
    assert calm.metrics["test_loss"] is not None


def test_a_run_diverges_at_its_first_loss_that_is_not_finite():
    fine, no_loss = [point(1), point(2, 0.5)], [point(1), point(2, 0.9, loss=None)]
    for finite_parameters in (False, True):
        for history in (fine, no_loss):
            at = diverged_at(history, 1, steps=2, finite_parameters=finite_parameters)
            assert at == 1
    assert diverged_at(no_loss, None, steps=2, finite_parameters=True) == 2
    assert diverged_at(fine, None, steps=2, finite_parameters=False) == 2
    assert diverged_at(fine, None, steps=2, finite_parameters=True) is None
    assert diverged_at(fine[:1], 0, steps=2, finite_parameters=True) == 0


def test_meters_know_the_first_step_of_each_lane_whose_loss_was_not_finite():
    meters = Meters(3, 1, CPU)
    for losses in ([1.0, 1.0, math.inf], [1.0, math.nan, 1.0], [1.0, 1.0, 1.0]):
        meters.add(torch.tensor(losses), torch.zeros(3))
    assert meters.first_nonfinite() == [None, 1, 0]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_one_number_that_is_not_finite_marks_its_own_lane(value):
    weight, bias = torch.zeros(6, 2, 2), torch.zeros(3)
    assert lanes_are_finite([weight, bias], 3) == [True] * 3
    weight[3, 1, 0] = value
    assert lanes_are_finite([weight, bias], 3) == [True, False, True]
    bias[2] = value
    assert lanes_are_finite([weight, bias], 3) == [True, False, False]
