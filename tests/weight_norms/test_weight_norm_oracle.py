"""Weight maps against torch's versions and against the claims of their papers."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from normbench import weight_norms
from normbench.errors import InputError, NormError


def torchs_weight_norm(weight, eps):
    """torch's parametrization on one lane's weight, its length g doubled: the effective weight."""
    layer = (
        nn.Linear(*reversed(weight.shape))
        if weight.dim() == 2
        else nn.Conv2d(weight.shape[1], weight.shape[0], 3)
    )
    layer.weight = nn.Parameter(weight.clone())
    weight_norm(layer, dim=0)
    with torch.no_grad():
        layer.parametrizations.weight.original0 *= 2
    return layer.weight


def standardized(weight, eps):
    """Every filter by itself, two passes."""
    return by_filter(weight, lambda mean, var, n: (mean, (var + eps) ** 0.5))


def scaled(weight, eps):
    """Every filter by itself, two passes; its gain is 2."""
    return by_filter(weight, lambda mean, var, n: (mean, max(var * n, eps) ** 0.5 / 2))


def centred(weight, eps):
    return by_filter(weight, lambda mean, var, n: (mean, 1.0))


def by_filter(weight, moments):
    """(v − shift) / scale, where `moments` gives both from mean, variance and size of a filter."""
    rows = []
    for row in weight.flatten(1).tolist():
        mean = sum(row) / len(row)
        shift, scale = moments(mean, sum((v - mean) ** 2 for v in row) / len(row), len(row))
        rows.append([(v - shift) / scale for v in row])
    return torch.tensor(rows, dtype=weight.dtype).view(weight.shape)


def over_the_largest_singular_value(weight, eps):
    return weight / torch.linalg.matrix_norm(weight.flatten(1), ord=2)


ORACLES = {
    "centered": centred,
    "none": lambda weight, eps: weight,
    "scaled_ws": scaled,
    "spectral": over_the_largest_singular_value,
    "wn": torchs_weight_norm,
    "ws": standardized,
}
EPS = {"ws": (1e-5, 0.1), "scaled_ws": (1e-4, 10.0)}


def test_effective_weights_equal_an_independent_computation(key, weights, stack):
    assert key in ORACLES, f"weight={key} has no oracle: add it to ORACLES in {__file__}"
    for eps in EPS.get(key, (None,)):
        layer = weight_norms.build(key, stack(weights), len(weights), eps).double()
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter *= 2
            for _ in range(200 if list(layer.buffers()) else 0):
                layer(stack(weights))  # until the state has converged
        wanted = torch.cat([ORACLES[key](weight, eps) for weight in weights])
        torch.testing.assert_close(layer(stack(weights)).view(wanted.shape), wanted, rtol=0, atol=1e-12)


def test_no_map_hands_out_the_weight_itself(weights, stack):
    weight = stack(weights)
    assert weight_norms.build("none", weight, 3)(weight) is weight


def test_weight_normalization_starts_as_the_weight_it_was_given(weights, stack):
    weight = stack(weights)
    effective = weight_norms.build("wn", weight, 3)(weight)
    torch.testing.assert_close(effective, weight, rtol=1e-14, atol=0)


def test_weight_normalization_separates_length_from_direction(weights, stack):
    weight = stack(weights).requires_grad_()
    layer = weight_norms.build("wn", weight, 3)
    effective = layer(weight)
    torch.testing.assert_close(layer(5 * weight), effective, rtol=1e-13, atol=0)
    lengths = effective.flatten(-1 if weight.dim() == 3 else 1).norm(dim=-1).flatten()
    torch.testing.assert_close(lengths, layer.gain, rtol=1e-13, atol=0)
    (grad,) = torch.autograd.grad((effective * effective.detach().sin()).sum(), weight)
    along = (grad * weight).flatten(-1 if weight.dim() == 3 else 1).sum(-1)
    assert along.abs().max() < 1e-13


def test_weight_normalization_initialised_by_the_data_is_batch_norm_at_step_0():
    """g = 1 / σ and b = −μ / σ of the outputs of the directions: salimans2016, §3."""
    draws = torch.Generator().manual_seed(3)
    x, weight = (torch.randn(s, generator=draws, dtype=torch.float64) for s in ((5, 3, 8, 8), (6, 3, 3, 3)))
    layer = weight_norms.build("wn", weight).double()
    with torch.no_grad():
        layer.gain.fill_(1.0)
        var, mean = torch.var_mean(F.conv2d(x, layer(weight)), (0, 2, 3), correction=0)
        layer.gain.copy_(var.rsqrt())
    y = F.conv2d(x, layer(weight), -mean * var.rsqrt())
    wanted = F.batch_norm(F.conv2d(x, weight), None, None, training=True, eps=1e-30)
    torch.testing.assert_close(y, wanted, rtol=0, atol=1e-12)


def test_weight_normalization_refuses_a_filter_without_direction(weights, stack):
    weight = stack(weights)
    weight.view(12, -1)[[1, 7]] = 0
    with pytest.raises(NormError, match=r"wn: every filter must have a length > 0.* 2 of 12 are all zero"):
        weight_norms.build("wn", weight, 3)


def test_weight_standardization_equals_batch_norm_of_filters_as_channels(weights):
    weight = weights[0].view(1, *weights[0].shape) if weights[0].dim() == 2 else weights[0]
    effective = weight_norms.build("ws", weight, 1, 1e-3)(weight)
    wanted = F.batch_norm(weights[0].view(1, 4, -1), None, None, training=True, eps=1e-3)
    torch.testing.assert_close(effective.view(4, -1), wanted[0], rtol=0, atol=1e-14)


def test_weight_standardization_ignores_scale_and_shift_of_a_filter(weights, stack):
    weight = stack(weights)
    layer = weight_norms.build("ws", weight, 3, 1e-14)
    torch.testing.assert_close(layer(3 * weight - 2), layer(weight), rtol=0, atol=1e-12)


def test_a_standardized_convolution_ignores_a_shift_of_its_input(weights, stack):
    if weights[0].dim() == 2:
        return
    weight = weight_norms.build("ws", stack(weights), 3)(stack(weights))
    x = torch.randn(2, 6, 7, 7, dtype=torch.float64)
    torch.testing.assert_close(
        F.conv2d(x + 5, weight, groups=3), F.conv2d(x, weight, groups=3), rtol=0, atol=1e-12
    )


def test_a_constant_filter_is_standardized_to_zero(stack):
    weight = torch.full((4, 2, 3, 3), 0.7)
    assert weight_norms.build("ws", weight)(weight).abs().max() < 1e-3


@pytest.mark.parametrize("shape", [(4, 1, 1, 1), (1, 4, 1)])
@pytest.mark.parametrize("key", ["ws", "scaled_ws", "centered"])
def test_maps_that_remove_the_mean_refuse_filters_of_one_value(key, shape):
    with pytest.raises(NormError, match=rf"{key}: a filter must hold at least 2 values .* fan-in 1 gives 1"):
        weight_norms.build(key, torch.randn(shape))


@pytest.mark.parametrize("eps", [0, -1.0, float("inf"), "small"])
@pytest.mark.parametrize("key", ["ws", "scaled_ws"])
def test_eps_must_be_positive(key, eps):
    with pytest.raises(NormError, match=f"{key}: eps must be a finite number > 0"):
        weight_norms.build(key, torch.randn(4, 2, 3, 3), 1, eps)


@pytest.mark.parametrize("key", ["none", "wn", "centered", "spectral"])
def test_an_eps_without_use_is_refused(key):
    with pytest.raises(InputError, match=f"{key}: the map has no eps; got 1e-05. Leave it out"):
        weight_norms.build(key, torch.randn(4, 2, 3, 3), 1, 1e-5)


def test_only_maps_that_set_the_mean_stay_away_from_the_classifier():
    spared = {key for key, kind in weight_norms.catalogue().items() if not kind.on_head}
    assert spared == {"ws", "scaled_ws", "centered"}
