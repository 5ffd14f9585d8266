"""The training loop on real digits: runs learn, repeat bit for bit, resume, and are marked if diverged."""

from __future__ import annotations

import pytest
import torch

from normbench import data, norms
from normbench.engine.train import Listener, train_stack

CPU = torch.device("cpu")
QUICK = ["model=mlp", "model.hidden=[32,32]", "batch=32", "steps=60", "optim.lr=0.4"]


@pytest.fixture(scope="module")
def digits():
    from normbench.config.compose import compose
    from normbench.config.resolve import resolve

    (config,) = compose(["data=digits"])
    return data.load(resolve(config).spec.data)


@pytest.fixture(scope="module")
def padded(digits):
    """The digits at the image size of LeNet-5."""
    from normbench.config.compose import compose
    from normbench.config.resolve import resolve

    (config,) = compose(["data=digits"])
    return data.load(resolve(config).spec.data, size=32)


def train(specs, digits, **more):
    return train_stack(specs, digits, CPU, **more)


def test_a_small_net_learns_the_digits(make_spec, digits):
    (result,) = train([make_spec(*QUICK, "norm=bn", "steps=300")], digits)
    assert result.diverged_at is None
    assert result.metrics["test_error"] < 0.06
    assert result.metrics["train_loss"] < 0.1
    assert result.history[0]["train_loss"] > 1.0
    assert [point["step"] for point in result.history] == sorted({point["step"] for point in result.history})


@pytest.mark.parametrize(
    "words",
    [
        ["model.branch=skipinit"],
        ["model.branch=fixup"],
        ["model.branch=fixup", "placement=norm_act_conv", "model.shortcut=conv"],
    ],
)
def test_skipinit_or_fixup_lets_a_residual_net_without_norms_learn_the_digits(make_spec, digits, words):
    deep = ["model=resnet20", "model.width=4", "norm=none", "batch=32", "steps=150"]
    specs = [make_spec(*deep, "optim.lr=0.1", "optim.lr_scaling=none", *more) for more in ([], words)]
    (plain,), (result,) = (train([spec], digits) for spec in specs)
    assert plain.metrics["train_loss"] > 2
    assert result.diverged_at is None
    assert result.metrics["test_error"] < 0.2


def test_a_sigmoid_net_without_norms_learns_with_lsuv_and_hardly_without(make_spec, digits):
    words = ["model=mlp", "model.hidden=[32,32,32]", "model.activation=sigmoid", "norm=none", "batch=32"]
    words += ["steps=200", "optim.lr=1.0"]
    errors = {}
    for init in ("he", "lsuv"):
        specs = [make_spec(*words, f"model.init={init}", f"seed={seed}") for seed in range(3)]
        errors[init] = [result.metrics["test_error"] for result in train(specs, digits)]
    assert max(errors["lsuv"]) < 0.2 < 0.5 < min(errors["he"])


def test_the_same_stack_twice_gives_the_same_bits(make_spec, digits):
    specs = [make_spec(*QUICK, f"seed={seed}", "model.dropout=0.2") for seed in (1, 2)]
    one, other = train(specs, digits), train(specs, digits)
    assert [r.history for r in one] == [r.history for r in other]


def test_a_lane_that_diverges_is_marked_and_does_not_change_other_lanes(make_spec, digits):
    words = [*QUICK, "norm=none", "optim.lr_scaling=none", "optim.momentum=0"]
    calm = [make_spec(*words, "optim.lr=0.05", f"seed={seed}") for seed in (1, 2)]
    wild = make_spec(*words, "optim.lr=1e6", "seed=1")
    clean = train([*calm, make_spec(*words, "optim.lr=0.05", "seed=3")], digits)
    mixed = train([*calm, wild], digits)
    assert mixed[2].diverged_at is not None
    assert mixed[2].diverged_at < 20
    assert mixed[2].metrics["test_error"] is None
    assert mixed[2].metrics["train_loss"] is None
    assert [r.history for r in mixed[:2]] == [r.history for r in clean[:2]]


def test_a_stack_whose_lanes_have_all_diverged_stops_early(make_spec, digits):
    wild = make_spec(*QUICK, "norm=none", "optim.lr=1e6", "optim.lr_scaling=none", "steps=400")
    (result,) = train([wild], digits)
    assert result.history[-1]["step"] < 400


@pytest.mark.parametrize(
    "words",
    [
        ["norm=bn"],
        ["norm=bn", "norm.momentum=debiased:0.1"],
        ["norm=gn", "optim=adamw"],
        ["norm=gn", "weight=spectral"],
        ["norm=bn", "model.init=lsuv"],
    ],
)
def test_a_run_that_resumes_from_a_checkpoint_ends_with_the_same_bits(make_spec, digits, words):
    specs = [
        make_spec(*QUICK, "optim.lr=0.01", "model.dropout=0.1", *words, f"seed={seed}") for seed in (4, 5)
    ]
    kept = []
    whole = train(specs, digits, listener=Listener(checkpoint=lambda states: kept.append(states())))
    middle = kept[len(kept) // 2]
    assert 0 < middle[0]["step"] < 60
    resumed = train(specs, digits, resume=middle)
    assert [r.history for r in resumed] == [r.history for r in whole]
    assert [r.metrics for r in resumed] == [r.metrics for r in whole]


@pytest.mark.parametrize("words", [[], ["weight=spectral"], ["model.init=lsuv"]])
def test_a_run_resumes_in_another_stack(make_spec, digits, words):
    words = [*QUICK, "engine.precision=fp64", "norm=bn", *words]
    specs = [make_spec(*words, f"seed={seed}") for seed in (4, 5, 6)]
    kept = []
    whole = train(specs, digits, listener=Listener(checkpoint=lambda states: kept.append(states())))
    (alone,) = train(specs[1:2], digits, resume=kept[20][1:2])
    assert alone.metrics["test_loss"] == pytest.approx(whole[1].metrics["test_loss"], rel=1e-9)


@pytest.mark.parametrize("key", norms.catalogue())
def test_every_norm_resumes_from_a_checkpoint_with_the_same_bits(make_spec, padded, key):
    """Two lanes that stop half way, in the middle of the schedules of their norms."""
    words = ["model=lenet5", "batch=16", "steps=12", f"norm={key}", "optim.lr=0.05"]
    if key in ("in", "bin", "bnet", "dbn"):  # not possible after fully connected layers
        words.append("placement.sites=conv*")
    specs = [make_spec(*words, f"seed={seed}") for seed in (4, 5)]
    kept = {}

    def keep(step, states):
        kept[step] = states()

    steps = iter(range(1, 13))
    whole = train(specs, padded, listener=Listener(checkpoint=lambda states: keep(next(steps), states)))
    resumed = train(specs, padded, resume=kept[6])
    assert [r.history for r in resumed] == [r.history for r in whole]
    assert [r.metrics for r in resumed] == [r.metrics for r in whole]


def test_lsuv_uses_the_first_images_of_each_lane_for_every_batch_size(make_spec, digits, monkeypatch):
    seen = {}

    def look(network, x, lanes):
        seen[lanes, x.shape[0]] = x.unflatten(1, (lanes, -1))

    monkeypatch.setattr("normbench.models.lsuv.equalize", look)
    words = [*QUICK, "norm=gn", "model.init=lsuv", "steps=1"]
    train([make_spec(*words, "batch=32", f"seed={seed}") for seed in (4, 5, 6)], digits)
    train([make_spec(*words, "batch=6", "seed=5")], digits)
    train([make_spec(*words, "batch=500", "seed=5")], digits)
    assert sorted(seen) == [(1, 132), (1, 500), (3, 128)]
    own = seen[3, 128][:, 1]
    assert torch.equal(seen[1, 132][:128, 0], own)
    assert torch.equal(seen[1, 500][:128, 0], own)
    assert not torch.equal(seen[3, 128][:, 0], own)


def test_lsuv_runs_once_before_the_first_step(make_spec, digits, monkeypatch):
    calls = []
    monkeypatch.setattr("normbench.models.lsuv.equalize", lambda *call: calls.append(call))
    specs = [make_spec(*QUICK, "norm=gn", "model.init=lsuv")]
    kept = []
    train(specs, digits, listener=Listener(checkpoint=lambda states: kept.append(states())))
    assert len(calls) == 1
    train(specs, digits, resume=kept[3])
    assert len(calls) == 1
    train([make_spec(*QUICK, "norm=gn")], digits)
    assert len(calls) == 1


def test_lanes_at_different_steps_cannot_share_a_stack(make_spec, digits):
    specs = [make_spec(*QUICK, f"seed={seed}") for seed in (4, 5)]
    kept = []
    train(specs, digits, listener=Listener(checkpoint=lambda states: kept.append(states())))
    with pytest.raises(ValueError, match="must resume at one step"):
        train(specs, digits, resume=[kept[0][0], kept[1][1]])


def test_workers_of_a_norm_without_batch_statistics_equal_one_large_batch(make_spec, digits):
    words = [*QUICK, "norm=gn", "engine.precision=fp64"]
    (many,) = train([make_spec(*words, "batch=4", "workers=8")], digits)
    (one,) = train([make_spec(*words, "batch=32")], digits)
    assert many.metrics["test_loss"] == pytest.approx(one.metrics["test_loss"], rel=1e-9)


def test_workers_of_batch_norm_have_their_own_statistics(make_spec, digits):
    words = [*QUICK, "norm=bn", "engine.precision=fp64"]
    (many,) = train([make_spec(*words, "batch=4", "workers=8")], digits)
    (one,) = train([make_spec(*words, "batch=32")], digits)
    ghosts = [*words, "norm=ghost", "norm.args.ghost_size=4", "batch=32"]
    (ghost,) = train([make_spec(*ghosts)], digits)
    assert abs(many.metrics["train_loss"] - one.metrics["train_loss"]) > 0.01
    assert many.metrics["train_loss"] == pytest.approx(ghost.metrics["train_loss"], rel=1e-9)


def test_evaluation_with_batch_statistics_has_its_own_metric(make_spec, digits):
    (bn,) = train([make_spec(*QUICK, "norm=bn", "norm.momentum=0.001")], digits)
    assert (
        bn.metrics["test_error@batch"] < bn.metrics["test_error"] - 0.1
    )  # running statistics have hardly been updated
    (gn,) = train([make_spec(*QUICK, "norm=gn")], digits)
    assert gn.metrics["test_error@batch"] == gn.metrics["test_error"]
    (large,) = train([make_spec(*QUICK, "norm=bn", "batch=600", "steps=2")], digits)
    assert large.metrics["test_error@batch"] is None  # 500 test images fill no batch


def test_a_norm_without_running_statistics_evaluates_with_batch_statistics(make_spec, digits):
    (result,) = train([make_spec(*QUICK, "norm=bn", "norm.args.track=false")], digits)
    assert result.metrics["test_error"] == result.metrics["test_error@batch"]


def test_the_first_step_that_reaches_a_target_is_reported(make_spec, digits):
    words = [*QUICK, "norm=bn", "eval.every=10"]
    (easy,) = train([make_spec(*words, "eval.target=0.5")], digits)
    (hard,) = train([make_spec(*words, "eval.target=0.0")], digits)
    assert easy.metrics["steps_to_0.5"] in range(10, 61, 10)
    assert hard.metrics["steps_to_0"] is None
    assert sum("test_error" in point for point in easy.history) == 6


def test_bf16_trains_with_fp32_weights_and_statistics(make_spec, digits):
    (result,) = train([make_spec(*QUICK, "norm=bn", "engine.precision=bf16", "steps=300")], digits)
    assert result.metrics["test_error"] < 0.08


def test_train_metrics_are_means_over_the_last_epoch(make_spec, digits):
    spec = make_spec(*QUICK, "norm=bn", "steps=90")
    (result,) = train([spec], digits)
    per_epoch = 1297 // 32
    points = [p for p in result.history if p["step"] > 90 - per_epoch]
    before = max(p["step"] for p in result.history if p["step"] <= 90 - per_epoch)
    assert before == 90 - per_epoch
    steps = [before, *(p["step"] for p in points)]
    mean = (
        sum(p["train_loss"] * (b - a) for p, a, b in zip(points, steps, steps[1:], strict=False)) / per_epoch
    )
    assert result.metrics["train_loss"] == pytest.approx(mean)
