"""Loss scaling is per lane: an overflow in one lane does not affect the others."""

from __future__ import annotations

import torch
from torch import nn

from normbench.engine.optim import Optimizer
from normbench.engine.scaling import GROWTH_INTERVAL, INITIAL_SCALE, LossScale

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


def test_a_lane_that_overflowed_does_not_change_and_the_others_step_as_usual(make_spec):
    specs = [make_spec("optim.lr_scaling=none", f"seed={seed}") for seed in range(2)]
    torch.manual_seed(0)
    weight = torch.randn(4, 3)
    wanted, scaled = nn.Parameter(weight.clone()), nn.Parameter(weight.clone())
    plain, scaling = (Optimizer({"w": p}, {"w": "weight"}, specs) for p in (wanted, scaled))
    scale = LossScale(2, CPU)
    gradient = torch.randn(4, 3)
    plain.step([gradient])
    overflowing = gradient * INITIAL_SCALE
    overflowing[3, 0] = float("inf")
    scaling.step([overflowing], scale)
    torch.testing.assert_close(scaled[:2], wanted[:2])
    assert torch.equal(scaled[2:], weight[2:])
    assert scaling.slots["momentum"][0][2:].eq(0).all()
