"""IterNorm: between centring and whitening, and steps that do not amplify rounding."""

from __future__ import annotations

import pytest
import torch

from normbench import norms


def same(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def with_condition(draw, condition):
    """(64, 6) centred values, their covariance with eigenvalues from 1 down to 1 / condition."""
    values = draw((64, 6))
    white = torch.linalg.qr(values - values.mean(0))[0] * 8
    spectrum = torch.logspace(0, -torch.log10(torch.tensor(condition)).item(), 6, dtype=torch.float64)
    return white * spectrum.sqrt() @ torch.linalg.qr(draw((6, 6), 3))[0]


@pytest.mark.parametrize(("condition", "iterations"), [(1.7, 10), (100.0, 20), (2e5, 40)])
def test_many_iterations_are_decorrelated_batch_norm_at_any_condition(make, draw, condition, iterations):
    x = with_condition(draw, condition)
    ours, theirs = make("iternorm", iterations=iterations, eps=1e-14), make("dbn", eps=1e-14)
    same(ours(x), theirs(x), 1e-7)


def test_the_papers_recursion_amplifies_rounding_where_the_coupled_one_does_not(make, draw):
    """As the docstring's Deviations say, for 25 steps and a condition number of 2e5."""
    x = with_condition(draw, 2e5)
    sigma = x.T @ x / len(x)
    root = torch.eye(6, dtype=torch.float64)
    for _ in range(25):
        root = (3 * root - root @ root @ root @ (sigma / sigma.trace())) / 2
    coupled = make("iternorm", iterations=25, eps=1e-14, momentum=1.0)
    coupled(x)
    exact = make("dbn", eps=1e-14, momentum=1.0)
    exact(x)
    assert not (root - exact.running_whitening[0] * sigma.trace().sqrt()).abs().max() < 1
    relative = (coupled.running_whitening - exact.running_whitening) / exact.running_whitening.abs().max()
    assert relative.abs().max() < 1e-6


@pytest.mark.parametrize("condition", [1.0, 30.0, 2e5])
def test_five_iterations_are_those_of_the_papers_recursion(make, draw, condition):
    x = with_condition(draw, condition)
    sigma = x.T @ x / len(x) + 1e-5 * torch.eye(6)
    root = torch.eye(6, dtype=torch.float64)
    for _ in range(5):
        root = (3 * root - root @ root @ root @ (sigma / sigma.trace())) / 2
    same(make("iternorm", affine=False)(x), x @ root / sigma.trace().sqrt(), 1e-11)


def test_no_iteration_centres_and_divides_by_the_root_of_the_trace(make, draw, images):
    layer, x = make("iternorm", iterations=0, group_size=3, affine=False, eps=1e-14), draw(images)
    centred = x - x.mean((0, 2, 3), keepdim=True)
    trace = centred.square().mean((0, 2, 3)).view(2, 3).sum(1).repeat_interleave(3)
    same(layer(x), centred / trace.sqrt().view(1, 6, 1, 1), 1e-11)


def test_more_iterations_come_nearer_to_whitening(make, draw):
    x = with_condition(draw, 100.0)
    distances = []
    for iterations in range(12):
        y = make("iternorm", iterations=iterations, affine=False, eps=1e-14)(x)
        distances.append((y.T @ y / len(y) - torch.eye(6)).abs().max())
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-6


@pytest.mark.parametrize("iterations", [-1, 2.5, True, False, None])
def test_iterations_are_a_whole_number(iterations):
    with pytest.raises(norms.NormError, match="iternorm: iterations must be a whole number ≥ 0; got"):
        norms.build("iternorm", 6, iterations=iterations)
