"""Scaled weight standardization and centring: what their papers promise, and timm's implementation."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from normbench import weight_norms


def rows(weight):
    return weight.flatten(-1 if weight.dim() == 3 else 1)


def test_a_scaled_filter_has_mean_zero_and_the_length_of_its_gain(weights, stack):
    weight = stack(weights)
    layer = weight_norms.build("scaled_ws", weight, 3)
    with torch.no_grad():
        layer.gain.copy_(torch.linspace(0.5, 2, 12))
    effective = rows(layer(weight)).view(12, -1)
    assert effective.mean(1).abs().max() < 1e-15
    torch.testing.assert_close(effective.norm(dim=1), layer.gain, rtol=1e-13, atol=0)


def test_scaled_standardization_is_standardization_over_the_root_of_fan_in(weights, stack):
    weight = stack(weights)
    ws, scaled = (weight_norms.build(key, weight, 3, 1e-14)(weight) for key in ("ws", "scaled_ws"))
    torch.testing.assert_close(scaled, ws / math.sqrt(weights[0][0].numel()), rtol=0, atol=1e-12)


def test_eps_bounds_the_squared_length_and_is_not_added_to_it(weights, stack):
    weight = stack(weights)
    at_work, idle = (weight_norms.build("scaled_ws", weight, 3, eps)(weight) for eps in (1e6, 1e-4))
    without = weight_norms.build("scaled_ws", weight, 3, 1e-300)(weight)
    assert torch.equal(idle, without)
    centred = weight_norms.build("centered", weight, 3)(weight)
    torch.testing.assert_close(at_work, centred / 1e3, rtol=1e-13, atol=1e-16)


def test_a_constant_filter_is_scaled_to_zero_with_a_finite_gradient():
    weight = torch.full((4, 2, 3, 3), 0.7, requires_grad=True)
    effective = weight_norms.build("scaled_ws", weight)(weight)
    (grad,) = torch.autograd.grad((effective * torch.randn(4, 2, 3, 3)).sum(), weight)
    assert effective.abs().max() < 1e-4
    assert grad.isfinite().all()


def test_scaled_filters_keep_unit_variance_on_what_a_relu_lets_through():
    """brock2021: a rectified Gaussian input of unit variance, thanks to the constant of the activation."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(256, 512, 1, 1, generator=generator, dtype=torch.float64)
    x = torch.randn(64, 512, 1, 1, generator=generator, dtype=torch.float64)
    constant = math.sqrt(2 / (1 - 1 / math.pi))
    y = F.conv2d(constant * x.relu(), weight_norms.build("scaled_ws", weight)(weight))
    assert y.var(0).mean().item() == pytest.approx(1, rel=0.05)
    assert y.mean().abs() < 0.01


@pytest.mark.parametrize("fan_in", [(3, 3, 3), (16, 1, 1)])
def test_timm_agrees_where_eps_is_small(fan_in):
    layers = pytest.importorskip("timm.layers")
    torch.manual_seed(0)
    channels, size, _ = fan_in
    theirs = layers.ScaledStdConv2d(channels, 8, size, padding=0, eps=1e-14).double()
    with torch.no_grad():
        theirs.gain.mul_(torch.linspace(0.5, 2, 8, dtype=torch.float64).view(-1, 1, 1, 1))
    ours = weight_norms.build("scaled_ws", theirs.weight, 1, 1e-14)
    with torch.no_grad():
        ours.gain.copy_(theirs.gain.flatten())
    x = torch.randn(2, channels, 5, 5, dtype=torch.float64)
    y, wanted = F.conv2d(x, ours(theirs.weight), theirs.bias), theirs(x)
    torch.testing.assert_close(y, wanted, rtol=0, atol=1e-11)
    pattern = torch.randn_like(y)
    grads = torch.autograd.grad((y * pattern).sum(), [theirs.weight, ours.gain])
    wanted_grads = torch.autograd.grad((wanted * pattern).sum(), [theirs.weight, theirs.gain])
    for grad, wanted in zip(grads, wanted_grads, strict=True):
        torch.testing.assert_close(grad.view_as(wanted), wanted, rtol=1e-9, atol=1e-9)


def test_a_centred_filter_has_mean_zero_and_its_deviations_unchanged(weights, stack):
    weight = rows(stack(weights))
    effective = rows(weight_norms.build("centered", stack(weights), 3)(stack(weights)))
    assert effective.mean(-1).abs().max() < 1e-15
    torch.testing.assert_close(effective.std(-1), weight.std(-1), rtol=1e-13, atol=0)


def test_the_gradient_of_a_centred_weight_is_centred(weights, stack):
    weight = stack(weights).requires_grad_()
    layer = weight_norms.build("centered", weight, 3)
    (grad,) = torch.autograd.grad(layer(weight).sin().sum(), weight)
    assert rows(grad).mean(-1).abs().max() < 1e-15
