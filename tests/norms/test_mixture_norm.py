"""Mixture norm: expectation maximization that is scikit-learn's, components that stay themselves."""

from __future__ import annotations

from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from normbench import norms
from normbench.norms import gaussian_mixture as gaussians
from normbench.norms.gaussian_mixture import Components, Mixed, expect, maximize, mix


def same(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def rows(x):
    """(positions, channels)."""
    return x.movedim(1, -1).flatten(0, -2)


def clusters(draw, centres, each=40, spread=0.1):
    """Shuffled points around centres: (J·each, C, 1, 1), and the cluster of each."""
    centres = torch.tensor(centres, dtype=torch.float64)
    which = torch.arange(len(centres)).repeat(each)
    noise = (draw((len(which), centres.shape[1]), 3) - 0.7) / 1.8
    return (centres[which] + spread * noise)[:, :, None, None], which


@pytest.mark.parametrize("eps", [1e-5, 0.1])
@pytest.mark.parametrize("batch", [None, 2])
def test_one_component_is_batch_norm_in_training_and_evaluation(make, draw, images, eps, batch):
    args = {"eps": eps, "batch": batch, "momentum": 0.3}
    layer, bn = make("mixture", components=1, **args), make("bn", **args)
    for seed in range(3):
        x = draw(images, seed).requires_grad_()
        ours, theirs = (
            (y, *torch.autograd.grad(y, [x, *norm.parameters()], draw(images, 9)))
            for norm, y in ((layer, layer(x)), (bn, bn(x)))
        )
        for a, b in zip(ours, theirs, strict=True):
            same(a, b, 1e-11)
    same(layer.running_mean, bn.running_mean)
    same(layer.running_var, bn.running_var)
    same(layer.eval()(draw(images, 5)), bn.eval()(draw(images, 5)), 1e-11)


@pytest.mark.filterwarnings(f"ignore::{ConvergenceWarning.__module__}.{ConvergenceWarning.__qualname__}")
@pytest.mark.parametrize("iterations", [1, 3, 10])
@pytest.mark.parametrize("components", [1, 2, 3])
def test_components_are_those_of_scikit_learn_from_the_same_start(make, draw, images, components, iterations):
    eps, x = 0.05, draw(images)
    points = rows(x).numpy()
    centre, deviation = points.mean(0), np.sqrt(points.var(0) + eps)
    layer = make("mixture", components=components, iterations=iterations, eps=eps, momentum=1.0)
    start = layer.running_offset.numpy() * deviation + centre
    theirs = GaussianMixture(
        components, covariance_type="diag", reg_covar=eps, max_iter=iterations, tol=0.0, random_state=0,
        weights_init=np.full(components, 1 / components), means_init=start,
        precisions_init=np.tile(deviation**-2, (components, 1)),
    )  # fmt: skip
    theirs.fit(points)
    y = layer(x)
    centre, deviation = torch.from_numpy(centre), torch.from_numpy(deviation)
    same(layer.running_share, torch.from_numpy(theirs.weights_), 1e-10)
    same(layer.running_offset * deviation + centre, torch.from_numpy(theirs.means_), 1e-10)
    same(layer.running_ratio * deviation**2, torch.from_numpy(theirs.covariances_), 1e-10)
    assert layer.running_ratio.min() > 1.01 * gaussians.NARROW
    assert y.isfinite().all()


def test_the_initial_components_are_normal_quantiles_along_the_diagonal():
    layer = norms.build("mixture", 16, 2, components=4)
    quantiles = torch.tensor([NormalDist().inv_cdf(p) for p in (0.125, 0.375, 0.625, 0.875)])
    offsets = layer.running_offset.view(2, 4, 16)
    same(offsets.square().sum(2).sqrt(), quantiles.abs().expand(2, 4), 1e-6)
    assert (offsets.std(2) < 1e-7).all()
    assert layer.running_share.eq(0.25).all()


def test_separate_clusters_are_normalized_each_by_itself(make, draw):
    x, which = clusters(draw, [[-9.0, -8.0], [0.0, 1.0], [8.0, 12.0]])
    y = make("mixture", channels=2, iterations=20, affine=False)(x)
    least = gaussians.NARROW * x.var((0, 2, 3), correction=0)
    for j in range(3):
        part = x[which == j]
        var = torch.maximum(part.var((0, 2, 3), correction=0) + 1e-5, least)
        wanted = (part - part.mean(0)) / var.sqrt().view(1, 2, 1, 1) * 3**0.5  # 1 / √λ
        torch.testing.assert_close(y[which == j], wanted, rtol=1e-3, atol=1e-3)


def test_components_stay_themselves_from_batch_to_batch(make, draw):
    layer = make("mixture", channels=2, momentum=0.1)
    centres = [[-9.0, -8.0], [0.0, 1.0], [8.0, 12.0]]
    for _ in range(60):
        layer(clusters(draw, centres)[0])
    deviation = layer.running_var.sqrt()
    same(layer.running_offset * deviation + layer.running_mean, torch.tensor(centres).double(), 0.15)
    same(layer.running_share, torch.full((3,), 1 / 3, dtype=torch.float64), 0.01)


def test_every_batch_makes_the_likelihood_no_smaller_where_it_is_the_same_batch(make, draw, images):
    layer, x = make("mixture", momentum=1.0, iterations=1, eps=1e-12), draw(images)
    z = (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), correction=0, keepdim=True)
    points, likelihoods = rows(z), []
    for _ in range(30):
        share, offset, ratio = layer.running_share, layer.running_offset, layer.running_ratio
        logs = -0.5 * (ratio.log() + (points.unsqueeze(1) - offset).square() / ratio).sum(2) + share.log()
        likelihoods.append(logs.logsumexp(1).sum().item())
        layer(x)
    assert all(b > a - 1e-9 for a, b in pairwise(likelihoods))
    assert likelihoods[-1] > likelihoods[0] + 1


@pytest.mark.parametrize("floored", [False, True], ids=["variances free", "variances at their least"])
def test_the_backward_pass_is_that_of_weighted_statistics_with_responsibilities_constant(
    draw, monkeypatch, floored
):
    if floored:
        monkeypatch.setattr(gaussians, "NARROW", 0.9)
    z = draw((2, 5, 30)).requires_grad_()  # (L, C, m)
    start = Components(
        torch.full((2, 3), 1 / 3).double(), draw((2, 3 * 5), 1).view(2, 3, 5), torch.ones(2, 3, 5).double()
    )
    logs = expect(z.detach(), z.detach().square(), start)
    eps = torch.full((1, 1, 5), 0.01, dtype=torch.float64)
    with torch.no_grad():
        fixed = maximize(z, z.square(), logs, eps)
    wanted, got = mix(z, logs, maximize(z, z.square(), logs, eps)), Mixed.apply(z, logs, *fixed)
    same(got, wanted)
    same(*(torch.autograd.grad(y, z, draw(z.shape, 2))[0] for y in (got, wanted)), 1e-11)


def test_scaling_and_shifting_a_channel_changes_nothing(make, draw, images):
    layer, other = (make("mixture", eps=1e-14, momentum="cumulative") for _ in range(2))
    scale, shift = draw((1, 6), 5).abs()[:, :, None, None], draw((1, 6), 6)[:, :, None, None]
    for seed in range(3):
        x = draw(images, seed)
        same(layer(x), other(scale * x + shift), 1e-9)
    x = draw(images, 7)
    same(layer.eval()(x), other.eval()(scale * x + shift), 1e-9)


def test_the_order_of_images_and_positions_does_not_matter(make, draw, images):
    x = draw(images)
    order = torch.randperm(48, generator=torch.Generator().manual_seed(0))
    shuffled = rows(x)[order].T.reshape(1, 6, 48)
    same(rows(make("mixture")(shuffled)), rows(make("mixture")(x))[order], 1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_component_that_nothing_belongs_to_stays_finite_and_weighs_nothing(make, draw, images, dtype):
    layer, bn = make("mixture", affine=False, dtype=dtype), make("bn", affine=False, dtype=dtype)
    with torch.no_grad():
        layer.running_share[2] = 0
        layer.running_offset[:2] = 0
        layer.running_offset[2] = 1e6
    x = draw(images, dtype=dtype).requires_grad_()
    y = layer(x)
    (grad,) = torch.autograd.grad(y.square().sum(), x)
    assert all(t.isfinite().all() for t in (y, grad, *layer.buffers(), layer.eval()(x)))
    torch.testing.assert_close(y, bn(x) * 2**0.5, rtol=1e-4, atol=1e-5)  # two halves, each over √½


def test_no_variance_of_a_component_falls_below_a_hundredth_of_its_channels(make, draw):
    x, _ = clusters(draw, [[-9.0, -8.0], [0.0, 1.0], [8.0, 12.0]], spread=0.0)
    layer = make("mixture", channels=2, iterations=20, momentum=1.0)
    y = layer(x.requires_grad_())
    (grad,) = torch.autograd.grad(y.sin().sum(), x)
    same(layer.running_ratio, torch.full((3, 2), 0.01, dtype=torch.float64))
    assert grad.isfinite().all()


def test_without_tracking_every_batch_starts_from_the_initial_components(make, draw, images):
    layer = make("mixture", track=False)
    first = layer(draw(images))
    layer(draw(images, 1))
    assert torch.equal(layer(draw(images)), first)
    assert torch.equal(layer.eval()(draw(images)), first)
    assert set(layer.state_dict()) == {"weight", "bias"}


def test_fewer_than_two_values_per_component_are_refused():
    layer = norms.build("mixture", 6, 2, components=4)
    layer.check((2, 12, 2, 2))
    with pytest.raises(norms.NormError) as error:
        layer.check((7, 12))
    assert str(error.value) == (
        "mixture: 4 components must share at least 8 values; got 7. Use a larger batch, "
        "components ≤ 3, another norm, or leave this layer out"
    )


@pytest.mark.parametrize("name", ["components", "iterations"])
@pytest.mark.parametrize("value", [0, 2.5, True, None])
def test_components_and_iterations_are_whole_numbers(name, value):
    with pytest.raises(norms.NormError, match=f"mixture: {name} must be a whole number ≥ 1; got"):
        norms.build("mixture", 6, **{name: value})


def test_what_a_layer_prints_tells_its_components():
    assert str(norms.build("mixture", 6)).endswith("momentum=0.1, batch=None, components=3, iterations=3)")
