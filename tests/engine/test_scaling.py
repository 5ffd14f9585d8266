"""Loss scaling is per lane: an overflow in one lane does not affect the others."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from normbench import data
from normbench.engine import scaling
from normbench.engine.optim import Optimizer
from normbench.engine.scaling import GROWTH_INTERVAL, INITIAL_SCALE, LossScale
from normbench.engine.train import Listener, train_stack

CPU = torch.device("cpu")


def test_gradients_are_unscaled_and_an_overflow_halves_the_factor_of_its_own_lane_only():
    scale = LossScale(3, CPU)
    losses = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    (slope,) = torch.autograd.grad(scale(losses).sum(), losses)
    assert slope.tolist() == [INITIAL_SCALE] * 3
    gradients = [torch.full((6, 2), INITIAL_SCALE), torch.full((3,), 2 * INITIAL_SCALE)]
    gradients[0][4, 1] = float("inf")
    assert scale.unscale(gradients).tolist() == [True, True, False]
    assert gradients[0][:4].eq(1).all() and gradients[1].tolist() == [2.0, 2.0, 2.0]
    assert scale.factor.tolist() == [INITIAL_SCALE, INITIAL_SCALE, INITIAL_SCALE / 2]


def test_many_steps_without_overflow_double_the_factor():
    scale = LossScale(2, CPU)
    for step in range(GROWTH_INTERVAL):
        scale.unscale([torch.tensor([1.0, float("nan") if step == 5 else 1.0])])
    assert scale.factor.tolist() == [2 * INITIAL_SCALE, INITIAL_SCALE / 2]
    scale.unscale([torch.ones(2)])
    assert scale.factor.tolist() == [2 * INITIAL_SCALE, INITIAL_SCALE / 2]


OPTIMISERS = {
    "sgd": (["optim=sgd"], lambda p: torch.optim.SGD([p], lr=0.1, momentum=0.9, weight_decay=0.02)),
    "adam": (["optim=adam"], lambda p: torch.optim.Adam([p], lr=0.1, weight_decay=0.02)),
    "rmsprop": (
        ["optim=rmsprop", "optim.momentum=0.5"],
        lambda p: torch.optim.RMSprop([p], lr=0.1, momentum=0.5, weight_decay=0.02),
    ),
    "adamw": (["optim=adamw"], lambda p: torch.optim.AdamW([p], lr=0.1, weight_decay=0.02)),
}


def optimizer_of(make_spec, words, weight, lanes):
    words = [*words, "engine.precision=fp16", "optim.lr=0.1", "optim.lr_scaling=none"]
    words += ["optim.weight_decay=0.02", "optim.decay=all"]
    specs = [make_spec(*words, f"seed={seed}") for seed in range(lanes)]
    return Optimizer({"w": weight}, {"w": "weight"}, specs)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_lane_skips_the_steps_in_which_it_overflows_as_with_torchs_scaler(make_spec, name):
    """Lane 0 never overflows, lane 1 at steps 0 and 3, lane 2 at step 1; torch's optimisers skip as well."""
    words, reference = OPTIMISERS[name]
    torch.manual_seed(0)
    weight = torch.randn(6, 3)
    stack = nn.Parameter(weight.clone())
    optimizer = optimizer_of(make_spec, words, stack, 3)
    assert optimizer.scale is not None
    lone = [nn.Parameter(w.clone()) for w in weight.chunk(3)]
    references = [reference(p) for p in lone]
    overflows = {(0, 1), (3, 1), (1, 2)}
    for step in range(6):
        gradients = torch.randn(6, 3)
        scaled = gradients * optimizer.scale.factor.repeat_interleave(2).unsqueeze(1)
        for lane in range(3):
            if (step, lane) in overflows:
                scaled[2 * lane + 1, 0] = float("inf")
                continue
            lone[lane].grad = gradients[2 * lane : 2 * lane + 2].clone()
            references[lane].step()
        optimizer.step([scaled])
        torch.testing.assert_close(stack.detach(), torch.cat(lone).detach(), rtol=1e-5, atol=1e-6)
    assert optimizer.updates.tolist() == [6, 4, 5]


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_checkpoint_holds_the_loss_scale_and_the_updates_of_every_lane(make_spec, name):
    def step(optimizer, number):
        gradient = torch.full((6, 3), 1.0 + number) * INITIAL_SCALE
        if number in (0, 3):
            gradient[2] = float("nan")
        optimizer.step([gradient])

    def fresh():
        return optimizer_of(make_spec, OPTIMISERS[name][0], nn.Parameter(torch.ones(6, 3)), 3)

    whole, resumed = fresh(), fresh()
    for number in range(5):
        step(whole, number)
    kept = {key: tensor.clone() for key, tensor in whole.state().items()}
    assert all(len(tensor) % 3 == 0 for tensor in kept.values()), "not lane-major"
    for key, tensor in resumed.state().items():
        tensor.copy_(kept[key])
    with torch.no_grad():
        resumed.parameters[0].copy_(whole.parameters[0])
    resumed.resume(5)
    assert resumed.scale.factor.tolist() == [INITIAL_SCALE, INITIAL_SCALE / 4, INITIAL_SCALE]
    assert resumed.updates.tolist() == [5, 3, 5]
    for number in range(5, 8):
        for optimizer in (whole, resumed):
            step(optimizer, number)
    assert torch.equal(whole.parameters[0], resumed.parameters[0])
    assert all(torch.equal(a, b) for a, b in zip(whole.tensors(), resumed.tensors(), strict=True))


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_fp16_run_resumes_from_a_checkpoint_with_the_same_bits(make_spec, monkeypatch, name):
    """The factor starts far too large, so that it halves, and doubles every seven steps."""
    monkeypatch.setattr(scaling, "INITIAL_SCALE", 2.0**40)
    monkeypatch.setattr(scaling, "GROWTH_INTERVAL", 7)
    words = ["model=mlp", "model.hidden=[16]", "batch=16", "steps=60", "norm=gn", "engine.precision=fp16"]
    specs = [make_spec(*words, *OPTIMISERS[name][0], "optim.lr=0.01", f"seed={seed}") for seed in (4, 5)]
    dataset = data.load(specs[0].data)
    kept = []
    whole = train_stack(
        specs, dataset, CPU, listener=Listener(checkpoint=lambda states: kept.append(states()))
    )
    middle = kept[len(kept) // 2]
    factors = [state["tensors"]["optim/loss_scale/factor"].item() for state in middle]
    assert all(1 < factor < 2.0**40 for factor in factors)
    assert all(0 < state["tensors"]["optim/updates"].item() < state["step"] for state in middle)
    resumed = train_stack(specs, dataset, CPU, resume=middle)
    assert [r.history for r in resumed] == [r.history for r in whole]
    assert [r.metrics for r in resumed] == [r.metrics for r in whole]


@pytest.mark.parametrize("precision", ["fp64", "fp32", "bf16"])
def test_other_precisions_have_no_loss_scale_and_no_further_state(make_spec, precision):
    spec = make_spec("optim=adamw", f"engine.precision={precision}")
    optimizer = Optimizer({"w": nn.Parameter(torch.ones(2, 2))}, {"w": "weight"}, [spec] * 2)
    assert optimizer.scale is None
    assert list(optimizer.state()) == ["mean/w", "square/w"]
    assert len(optimizer.blocks) == 1, "lanes with the same settings share a kernel call"
