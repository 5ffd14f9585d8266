"""Loss scaling is per lane: an overflow in one costs the others nothing."""

from __future__ import annotations

import torch
from torch import nn

from normbench.engine.optim import Optimizer
from normbench.engine.scaling import FIRST, PATIENCE, LossScale

CPU = torch.device("cpu")


def test_gradients_come_back_whole_and_an_overflow_halves_its_own_lanes_factor_only():
    scale = LossScale(3, CPU)
    losses = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    (slope,) = torch.autograd.grad(scale(losses).sum(), losses)
    assert slope.tolist() == [FIRST] * 3
    gradients = [torch.full((6, 2), FIRST), torch.full((3,), 2 * FIRST)]
    gradients[0][4, 1] = float("inf")
    assert scale.undo(gradients).tolist() == [True, True, False]
    assert gradients[0][:4].eq(1).all() and gradients[1].tolist() == [2.0, 2.0, 2.0]
    assert scale.factor.tolist() == [FIRST, FIRST, FIRST / 2]


def test_a_long_quiet_doubles_the_factor():
    scale = LossScale(2, CPU)
    for step in range(PATIENCE):
        scale.undo([torch.tensor([1.0, float("nan") if step == 5 else 1.0])])
    assert scale.factor.tolist() == [2 * FIRST, FIRST / 2]
    scale.undo([torch.ones(2)])
    assert scale.factor.tolist() == [2 * FIRST, FIRST / 2]


def test_a_lane_that_overflowed_stays_as_it_is_and_the_others_step_as_ever(make_spec):
    specs = [make_spec("optim.lr_scaling=none", f"seed={seed}") for seed in range(2)]
    torch.manual_seed(0)
    weight = torch.randn(4, 3)
    wanted, scaled = nn.Parameter(weight.clone()), nn.Parameter(weight.clone())
    plain, sparing = (Optimizer({"w": p}, {"w": "weight"}, specs) for p in (wanted, scaled))
    scale = LossScale(2, CPU)
    gradient = torch.randn(4, 3)
    plain.step([gradient])
    overflowing = gradient * FIRST
    overflowing[3, 0] = float("inf")
    sparing.step([overflowing], scale)
    torch.testing.assert_close(scaled[:2], wanted[:2])
    assert torch.equal(scaled[2:], weight[2:])
    assert sparing.slots["momentum"][0][2:].eq(0).all()
