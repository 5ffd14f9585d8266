"""L1 batch norm: batch norm with another measure of spread."""

from __future__ import annotations

import math

import pytest
import torch

from normbench import norms
from normbench.errors import NormError

ROOT = math.sqrt(math.pi / 2)


def same(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def test_where_all_values_are_equally_far_from_the_mean_it_is_batch_norm_over_a_constant(make):
    signs = torch.tensor([1.0, 1, -1, -1, 1, -1], dtype=torch.float64)
    x = torch.stack([c + 5 * signs.roll(c) for c in range(6)], dim=1)
    l1, l2 = (make(key, affine=False, eps=1e-12)(x) for key in ("l1bn", "bn"))
    same(ROOT * l1, l2, 1e-10)


def test_normal_values_come_out_with_unit_variance(make):
    x = 7 + 3 * torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert abs(make("l1bn", channels=1, affine=False)(x).std() - 1) < 0.005


@pytest.mark.parametrize("values", [2, 3, 8])
def test_the_deviation_of_few_normal_values_is_too_small_by_the_documented_factor(make, values):
    layer = make("l1bn", channels=20_000, momentum=1.0)
    layer(torch.randn(values, 20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    assert abs(layer.running_deviation.mean() - math.sqrt((values - 1) / values)) < 0.02


def test_gradients_have_the_closed_form(make, draw, images):
    layer, g = make("l1bn", affine=False, eps=0.1), draw(images, 1)
    x = draw(images).requires_grad_()
    (grad,) = torch.autograd.grad(layer(x), x, g)

    def mean(t):
        return t.mean((0, 2, 3), keepdim=True)

    centred = x - mean(x)
    s = ROOT * mean(centred.abs()) + 0.1
    through = ROOT * mean(g * centred) * (centred.sign() - mean(centred.sign())) / s
    same(grad, (g - mean(g) - through) / s)


def test_what_is_averaged_is_the_deviation_and_not_its_inverse(make, draw, images):
    layer, deviations = make("l1bn", momentum=0.25), []
    for seed in range(2):
        x = draw(images, seed)
        layer(x)
        off = (x - x.mean((0, 2, 3), keepdim=True)).abs().mean((0, 2, 3))
        deviations.append(ROOT * off)
    same(layer.running_deviation, 0.75 * (0.75 + 0.25 * deviations[0]) + 0.25 * deviations[1])


def test_after_one_batch_of_momentum_one_evaluation_of_it_is_training(make, draw, images):
    layer = make("l1bn", momentum=1.0)
    trained = layer(draw(images))
    same(layer.eval()(draw(images)), trained)


def test_without_training_evaluation_is_the_affine_map(make, draw, images):
    same(make("l1bn", eps=1e-15).eval()(draw(images)), make("affine")(draw(images)))


def test_every_worker_has_statistics_of_its_own_and_their_mean_is_kept(make, draw, images):
    together, alone = make("l1bn", batch=2), [make("l1bn") for _ in range(2)]
    x = draw(images)
    same(together(x), torch.cat([layer(part) for layer, part in zip(alone, x.split(2), strict=True)]))
    for name in ("running_mean", "running_deviation"):
        same(together.get_buffer(name), sum(layer.get_buffer(name) for layer in alone) / 2)
    assert together.num_batches_tracked == 1


def test_evaluation_with_batch_statistics_is_training(make, draw, images):
    trained = make("l1bn")(draw(images))
    untracked = make("l1bn", track=False)
    assert not dict(untracked.named_buffers())
    assert torch.equal(untracked.eval()(draw(images)), trained)
    told = make("l1bn").eval()
    told.source = "batch"
    assert torch.equal(told(draw(images)), trained)
    assert told.num_batches_tracked == 0


def test_it_is_invariant_to_scale_and_shift(make, draw, images):
    layer = make("l1bn", eps=1e-12)
    same(layer(3 * draw(images) + 5), layer(draw(images)), 1e-9)


def test_a_constant_channel_comes_out_as_the_shift(make, images):
    layer = make("l1bn")
    y = layer(torch.full(images, 3.0, dtype=torch.float64))
    assert torch.equal(y, layer.bias.view(1, -1, 1, 1).expand_as(y))


def test_a_single_value_and_a_batch_of_broken_statistics_are_refused():
    with pytest.raises(NormError, match=r"l1bn: a statistic must .* 1 image per statistic on a map of 1"):
        norms.build("l1bn", 6, batch=1).check((4, 6, 1, 1))
    norms.build("l1bn", 6, batch=1).check((4, 6, 2, 1))
    with pytest.raises(NormError, match="l1bn: the input must hold a multiple of 4 images"):
        norms.build("l1bn", 6, batch=4).check((6, 6, 2, 2))
