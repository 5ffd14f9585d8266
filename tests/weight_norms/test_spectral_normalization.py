"""Spectral normalization against exact singular values and torch's own implementations."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import spectral_norm as torchs_hook
from torch.nn.utils.parametrizations import spectral_norm as torchs_parametrization

from normbench import weight_norms
from normbench.errors import NormError


def matrices(weight):
    """(K, Cout, fan-in) of the three lanes of a stacked weight."""
    return weight.flatten(-1 if weight.dim() == 3 else 1).view(3, 4, -1)


def test_the_largest_singular_value_of_every_lane_converges_to_one(weights, stack):
    weight = stack(weights)
    layer = weight_norms.build("spectral", weight, 3)
    for _ in range(100):
        effective = layer(weight)
    values = torch.linalg.matrix_norm(matrices(effective), ord=2)
    torch.testing.assert_close(values, torch.ones_like(values), rtol=0, atol=1e-12)


def test_the_largest_singular_value_is_close_to_one_from_the_first_pass_on():
    weight = torch.randn(2 * 64, 32, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    effective = weight_norms.build("spectral", weight, 2)(weight)
    values = torch.linalg.matrix_norm(effective.view(2, 64, -1), ord=2)
    assert values.min() >= 1  # σ is a lower bound
    assert values.max() < 1.1


def test_one_pass_in_training_is_one_iteration_of_the_paper(weights, stack):
    weight = stack(weights)
    layer = weight_norms.build("spectral", weight, 3)
    u = layer.u.clone()
    moved = weight + 0.3
    layer(moved)
    for k, matrix in enumerate(matrices(moved)):
        v = matrix.T @ u[k] / (matrix.T @ u[k]).norm()
        wanted = matrix @ v / (matrix @ v).norm()
        torch.testing.assert_close(layer.v[k], v, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(layer.u[k], wanted, rtol=1e-12, atol=1e-14)


def linear(weight, parametrize):
    """A linear layer of a lane's filters, parametrized by torch."""
    rows = weight.flatten(1)
    layer = nn.Linear(rows.shape[1], rows.shape[0], bias=False, dtype=rows.dtype)
    layer.weight = nn.Parameter(rows.clone())
    return parametrize(layer)


def test_torchs_parametrization_gives_the_same_weight_and_gradient_with_the_same_vectors(weights):
    for weight in weights:
        ours = weight_norms.build("spectral", weight.flatten(1).unsqueeze(0), 1).eval()
        theirs = linear(weight, torchs_parametrization).eval()
        theirs.parametrizations.weight[0]._u.copy_(ours.u[0])
        theirs.parametrizations.weight[0]._v.copy_(ours.v[0])
        stored = weight.flatten(1).unsqueeze(0).requires_grad_()
        effective = ours(stored)
        torch.testing.assert_close(effective[0], theirs.weight, rtol=1e-13, atol=1e-15)
        (grad,) = torch.autograd.grad(effective.cos().sum(), stored)
        (wanted,) = torch.autograd.grad(theirs.weight.cos().sum(), theirs.parametrizations.weight.original)
        torch.testing.assert_close(grad[0], wanted, rtol=1e-12, atol=1e-14)


def test_torchs_parametrization_of_the_transposed_weight_takes_the_same_path(weights):
    """It moves u before v, the paper v before u: with rows and columns exchanged they are one iteration."""
    for weight in weights:
        rows = weight.flatten(1)
        ours = weight_norms.build("spectral", rows.unsqueeze(0), 1)
        theirs = linear(weight, lambda layer: torchs_parametrization(layer, dim=1))
        theirs.parametrizations.weight[0]._u.copy_(ours.v[0])
        theirs.parametrizations.weight[0]._v.copy_(ours.u[0])
        for _ in range(5):
            rows = rows + 0.1 * rows.sin()
            with torch.no_grad():
                theirs.parametrizations.weight.original.copy_(rows)
            torch.testing.assert_close(ours(rows.unsqueeze(0))[0], theirs.weight, rtol=1e-12, atol=1e-14)


def test_torchs_hook_takes_the_same_path(weights):
    for weight in weights:
        rows = weight.flatten(1)
        ours = weight_norms.build("spectral", rows.unsqueeze(0), 1)
        theirs = linear(weight, torchs_hook)
        theirs.weight_u.copy_(ours.u[0])
        theirs.weight_v.copy_(ours.v[0])
        for _ in range(5):
            rows = rows + 0.1 * rows.sin()
            with torch.no_grad():
                theirs.weight_orig.copy_(rows)
            theirs(torch.zeros(1, rows.shape[1], dtype=rows.dtype))
            torch.testing.assert_close(ours(rows.unsqueeze(0))[0], theirs.weight, rtol=1e-12, atol=1e-14)


def test_the_start_follows_from_a_lanes_weight_alone(weights, stack):
    layer = weight_norms.build("spectral", stack(weights), 3)
    turned = weight_norms.build("spectral", stack(weights[::-1]), 3)
    torch.testing.assert_close(turned.u, layer.u.flip(0), rtol=0, atol=1e-14)
    again = weight_norms.build("spectral", stack(weights), 3)
    assert torch.equal(again.u, layer.u)


def test_a_stack_in_single_precision_starts_in_the_bits_of_its_lanes(weights, stack):
    layer = weight_norms.build("spectral", stack(weights).float(), 3)
    for k, weight in enumerate(weights):
        lone = weight_norms.build("spectral", stack([weight]).float(), 1)
        assert torch.equal(layer.u[k], lone.u[0])
        assert torch.equal(layer.v[k], lone.v[0])


def test_two_passes_before_a_backward_pass_do_not_harm_each_other(weights, stack):
    weight = stack(weights).requires_grad_()
    layer = weight_norms.build("spectral", weight, 3)
    other = copy.deepcopy(layer)
    first, second = layer(weight), layer(weight)
    both = torch.autograd.grad(first.sin().sum() + second.cos().sum(), weight)[0]
    one = torch.autograd.grad(other(weight).sin().sum(), weight)[0]
    two = torch.autograd.grad(other(weight).cos().sum(), weight)[0]
    torch.testing.assert_close(both, one + two, rtol=1e-12, atol=1e-14)


def test_a_weight_of_zeros_is_refused(weights, stack):
    weight = stack(weights)
    weight.unflatten(0, (3, -1))[1] = 0
    with pytest.raises(NormError, match=r"spectral: a weight must hold a value other than 0.* 1 of 3 lanes"):
        weight_norms.build("spectral", weight, 3)
