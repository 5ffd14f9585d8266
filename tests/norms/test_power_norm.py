"""Power normalization: batch RMS in the warm-up, then running statistics in both directions."""

from __future__ import annotations

import pytest
import torch

from normbench import norms


def same(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def step(layer, x, g):
    """Output and gradients of one training pass."""
    x = x.clone().requires_grad_()
    y = layer(x)
    return y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], g)


def batch_rms(layer, x, g, batch=None):
    """The same of γ x / √(mean x² + ε) + β, differentiated by autograd."""
    x = x.clone().requires_grad_()
    parts = [
        part / (part.square().mean((0, 2, 3), keepdim=True) + layer.eps).sqrt()
        for part in x.split(batch or len(x))
    ]
    y = torch.cat(parts) * layer.weight[:, None, None] + layer.bias[:, None, None]
    return y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], g)


@pytest.mark.parametrize("batch", [None, 2])
def test_the_warm_up_is_batch_rms_norm_under_autograd(make, draw, images, batch):
    layer = make("power", scaling=False, warmup=0.5, batch=batch)
    for at in range(5):
        layer.begin_step(at, 10)
        x, g = draw(images, at), draw(images, 10 + at)
        for got, wanted in zip(step(layer, x, g), batch_rms(layer, x, g, batch), strict=True):
            same(got, wanted)
    layer.begin_step(5, 10)
    assert (step(layer, x, g)[0] - batch_rms(layer, x, g, batch)[0]).abs().max() > 1e-3


def test_scaling_is_an_rms_norm_over_channels_before(make, draw, images):
    scaled, bare, rms = make("power"), make("power", scaling=False), make("rms", eps=1e-5, affine=False)
    for seed in range(3):
        x = draw(images, seed)
        same(scaled(x), bare(rms(x)))
    same(scaled.eval()(x), bare.eval()(rms(x)))


def test_without_a_known_progress_only_the_first_batch_uses_its_own_statistic(make, draw, images):
    layer, own = make("power", scaling=False), make("power", scaling=False, warmup=1.0)
    own.begin_step(0, 10)
    for seed in range(3):
        x = draw(images, seed)
        assert torch.equal(layer(x), own(x)) == (seed == 0)


def test_after_the_warm_up_the_other_images_do_not_matter(make, draw, images):
    layer, other, x = make("power"), make("power"), draw(images)
    layer(x), other(x)
    mixed = torch.cat([draw(images, 1)[:2], draw(images, 2)[2:]])
    assert torch.equal(layer(draw(images, 1))[:2], other(mixed)[:2])


def test_running_statistics_move_in_the_warm_up_too(make, draw, images):
    layer = make("power", scaling=False, warmup=1.0, momentum=0.25, gradient_momentum=0.5)
    layer.begin_step(0, 10)
    first, second, g = draw(images), draw(images, 1), draw(images, 2)
    step(layer, first, g)
    step(layer, second, g)
    squares = [x.square().mean((0, 2, 3)) for x in (first, second)]
    same(layer.running_square, 0.75 * squares[0] + 0.25 * squares[1])
    projection = torch.zeros(6, dtype=torch.float64)
    for x, square in zip((first, second), squares, strict=True):
        z = x / (square + 1e-5).sqrt()[:, None, None]
        power, product = z.square().mean((0, 2, 3)), (layer.weight[:, None, None] * g * z).mean((0, 2, 3))
        projection = projection * (1 - 0.5 * power) + 0.5 * product
    same(layer.running_projection, projection.detach())


def test_on_a_stationary_stream_the_backward_pass_becomes_the_gradient_of_rms_norm(make, draw, images):
    layer, x, g = make("power", scaling=False, eps=1e-14), draw(images), draw(images, 1)
    for _ in range(400):
        got = step(layer, x, g)
    for a, b in zip(got, batch_rms(layer, x, g), strict=True):
        same(a, b)


def test_the_gradient_is_divided_by_what_the_output_was(make, draw, images):
    """By the running quadratic mean, not by the batch's: the authors' code takes the latter."""
    layer = make("power", scaling=False, affine=False, gradient_momentum=0.0)
    step(layer, draw(images), draw(images, 1))
    running = layer.running_square.clone()
    g = draw(images, 2)
    same(step(layer, 5 * draw(images, 3), g)[1], g / (running + 1e-5).sqrt()[:, None, None])


def test_workers_share_the_mean_of_their_statistics(make, draw, images):
    layer, x = make("power", scaling=False, batch=2), draw(images)
    layer(x)
    same(layer.running_square, x.square().mean((0, 2, 3)))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"warmup": 2}, "power: warmup must be a number in [0, 1]; got 2"),
        ({"gradient_momentum": -1}, "power: gradient_momentum must be a number in [0, 1]; got -1"),
        ({"gradient_momentum": "slow"}, "power: gradient_momentum must be a number in [0, 1]; got 'slow'"),
        ({"scaling": 4}, "power: scaling must be true or false; got 4"),
    ],
)
def test_what_cannot_be_is_refused(args, message):
    with pytest.raises(norms.NormError) as error:
        norms.build("power", 6, **args)
    assert message in str(error.value)


def test_shapes_that_leave_only_the_sign_are_refused():
    with pytest.raises(norms.NormError, match="1 image per statistic on a map of 1 position"):
        norms.build("power", 6).check((1, 6))
    with pytest.raises(norms.NormError, match=r"scaling leaves only the sign.*set scaling=false"):
        norms.build("power", 1).check((8, 1, 4, 4))
    norms.build("power", 1, scaling=False).check((8, 1, 4, 4))
