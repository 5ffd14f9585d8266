"""Dropout of stacked runs: its mean, its values, its masks."""

from __future__ import annotations

import pytest
import torch

from normbench import models, rng
from normbench.data.shape import Shape
from normbench.models.layers import Dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("shape", [(50, 3 * 40), (50, 3 * 10, 5, 5)])
def test_dropout_is_a_mask_over_1_minus_the_rate_with_every_lanes_own_random_numbers(rate, shape):
    seeds, lanes = (4, 9, 2), 3
    layer = Dropout(rate, seeds, "fc1")
    layer.begin_step(7, 10)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = layer(x)
    for k, seed in enumerate(seeds):
        own = x.unflatten(1, (lanes, -1))[:, k]
        draws = rng.uniform(rng.lane_keys([seed], "dropout/fc1"), 7, count=own.numel()).view(own.shape)
        wanted = torch.where(draws < rate, 0.0, own / (1 - rate))
        torch.testing.assert_close(y.unflatten(1, (lanes, -1))[:, k], wanted, rtol=1e-15, atol=0)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_dropout_keeps_the_mean_and_a_share_of_1_minus_the_rate(rate):
    layer = Dropout(rate, (0,), "head")
    x = torch.ones(200, 500)
    deviation = (rate / (1 - rate)) ** 0.5 / x.numel() ** 0.5
    for step in range(3):
        layer.begin_step(step, 3)
        y = layer(x)
        assert abs(y.mean().item() - 1) < 5 * deviation
        assert abs((y != 0).float().mean().item() - (1 - rate)) < 5 * deviation


def test_dropout_scales_the_gradient_as_the_output():
    layer = Dropout(0.5, (0,), "head")
    x = torch.ones(8, 8, requires_grad=True)
    y = layer(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient, y)


def test_evaluation_has_no_dropout():
    layer = Dropout(0.5, (0,), "head").eval()
    x = torch.randn(8, 8)
    assert torch.equal(layer(x), x)


@pytest.mark.parametrize("model", ["mlp", "lenet5", "vgg11", "resnet20"])
def test_a_network_with_dropout_predicts_without_it_as_one_that_never_had_it(make_spec, model):
    """Training and evaluation agree in the mean only if kept units are scaled up in training."""
    words = [f"model={model}", "model.width=4", "norm=none", "model.hidden=[20,20]", "batch=4"]
    image = Shape(1, 32, 10, 1, 1)
    with_dropout, without = (
        models.build([make_spec(*words, f"model.dropout={rate}")], image).double() for rate in (0.5, 0.0)
    )
    x = torch.randn(2, 1, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        predicted = with_dropout.eval()(x)
        torch.testing.assert_close(predicted, without.eval()(x), rtol=1e-12, atol=1e-12)
        assert (with_dropout.train()(x) - predicted).abs().max() > 1e-3
        if model in ("vgg11", "resnet20"):  # the classifier is linear: the mean over masks is the prediction
            logits = []
            for step in range(200):
                with_dropout.begin_step(step, 200)
                logits.append(with_dropout(x))
            mean, deviation = torch.stack(logits).mean(0), torch.stack(logits).std(0)
            assert ((mean - predicted).abs() < 5 * deviation / 200**0.5).all()
