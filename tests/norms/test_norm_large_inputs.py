"""Inputs whose squares overflow: outputs and gradients are finite if those of torch's batch norm are."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from normbench import norms

#: Group norm's own kernel overflows from here on; up to 1e19 it does not.
KERNEL_LIMIT = {"gn": 1e19, "ln_chw": 1e19}


def step(layer, x: torch.Tensor) -> list[torch.Tensor]:
    """Output and gradients of a fixed projection."""
    x = x.clone().requires_grad_()
    y = layer(x)
    weights = torch.sin(torch.arange(y.numel(), dtype=y.dtype)).view(y.shape)
    grads = torch.autograd.grad((y * weights).sum(), [x, *layer.parameters()], allow_unused=True)
    return [y, *(grad for grad in grads if grad is not None)]


def images(scale: float, seed: int) -> torch.Tensor:
    return scale * torch.randn(8, 6, 5, 4, generator=torch.Generator().manual_seed(seed))


def finite(tensors) -> bool:
    return all(t.isfinite().all() for t in tensors)


@pytest.mark.parametrize("scale", [1e19, 1e20, 1e30])
def test_torchs_batch_norm_is_finite(scale):
    layer = nn.BatchNorm2d(6)
    assert all(finite(step(layer, images(scale, seed))) for seed in range(3))
    assert layer.eval()(images(scale, 3)).isfinite().all()


@pytest.mark.parametrize("told", [True, False], ids=["told of the run", "on its own"])
@pytest.mark.parametrize("scale", [1e19, 1e20, 1e30])
def test_outputs_gradients_and_evaluation_are_finite(key, make, oracle, scale, told):
    for args in (getattr(oracle, "FITTING", {}), *getattr(oracle, "VARIANTS", ())):
        if scale > KERNEL_LIMIT.get(key, math.inf):
            return
        layer = make(key, dtype=torch.float32, **args)
        for seed in range(3):
            if told:
                layer.begin_step(seed, 3)
            assert finite(step(layer, images(scale, seed))), f"step {seed} with {args}"
        assert layer.eval()(images(scale, 3)).isfinite().all(), args


def test_cross_iteration_norm_is_finite_with_the_weights_that_it_follows():
    layer, conv = norms.build("cbn", 6, window=3), nn.Conv2d(6, 6, 3)
    layer.follow(conv)
    for seed in range(4):
        y = layer(conv(images(1e19, seed)))
        (grad,) = torch.autograd.grad(y.sum(), conv.weight)
        assert finite([y, grad])
        with torch.no_grad():
            conv.weight *= 0.9
    assert layer.eval()(conv(images(1e19, 9))).isfinite().all()


def test_ordinary_batches_after_an_overflow_find_finite_statistics(key, make):
    layer = make(key, dtype=torch.float32)
    for seed, scale in enumerate((1e20, 1.0, 1.0)):
        if scale > KERNEL_LIMIT.get(key, math.inf):
            continue
        layer.begin_step(seed, 3)
        step(layer, images(scale, seed))
    assert finite(step(layer, images(1.0, 4)))
    assert layer.eval()(images(1.0, 5)).isfinite().all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_input_that_is_not_finite_is_not_hidden(key, make, value):
    if key in ("dyt", "derf"):
        return  # tanh and erf of infinity are 1
    layer = make(key, dtype=torch.float32)
    x = images(1.0, 0)
    x[:, :, 2, 1] = value
    assert not layer(x).isfinite().all()
