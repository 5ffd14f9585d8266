"""Moving average batch normalization: rings of quadratic means and projections, renormalization."""

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


def batch_rms(layer, x, g):
    """The same of γ x / √(mean x² + ε) + β, differentiated by autograd."""
    x = x.clone().requires_grad_()
    z = x / (x.square().mean((0, 2, 3), keepdim=True) + layer.eps).sqrt()
    y = z * layer.weight[:, None, None] + layer.bias[:, None, None]
    return y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], g)


def agree(layer, x, g):
    pairs = zip(step(layer, x, g), batch_rms(layer, x, g), strict=True)
    return all(torch.allclose(a, b, rtol=0, atol=1e-11) for a, b in pairs)


def test_a_buffer_of_one_without_renormalization_is_batch_rms_norm_under_autograd(make, draw, images):
    layer = make("mabn", buffer=1, clip=1)
    assert all(agree(layer, draw(images, seed), draw(images, 10 + seed)) for seed in range(4))


def test_it_is_batch_rms_norm_until_the_buffer_is_full(make, draw, images):
    layer = make("mabn", buffer=3)
    assert [agree(layer, draw(images, seed), draw(images, 9)) for seed in range(4)] == [
        True,
        True,
        False,
        False,
    ]


def test_it_is_batch_rms_norm_until_the_warm_up_is_over(make, draw, images):
    layer, agreed = make("mabn", buffer=2, warmup=0.5), []
    for at in range(10):
        layer.begin_step(at, 10)
        agreed.append(agree(layer, draw(images, at), draw(images, 10 + at)))
    assert agreed == [True] * 5 + [False] * 5


def test_what_entered_in_the_warm_up_counts_after_it(make, draw, images):
    layer = make("mabn", buffer=3, warmup=0.5, clip=1, affine=False)
    for at, seed in enumerate((0, 1)):
        layer.begin_step(at, 4)
        layer(draw(images, seed))
    layer.begin_step(2, 4)
    x = draw(images, 2)
    square = sum(draw(images, seed).square().mean((0, 2, 3)) for seed in range(3)) / 3
    same(layer(x), x / (square + 1e-5).sqrt()[:, None, None])


def test_the_oldest_batch_leaves_a_full_buffer(make, draw, images):
    layer = make("mabn", buffer=2)
    for seed in range(5):
        step(layer, draw(images, seed), draw(images, 9))
    same(layer.squares, torch.stack([draw(images, seed).square().mean((0, 2, 3)) for seed in (3, 4)], 1))


def test_renormalization_is_the_ratio_to_the_running_root_within_its_bounds(make, draw, images):
    layer = make("mabn", buffer=1, clip=1.5, affine=False, momentum=0.0)
    x = draw(images)
    layer(x)
    for factor, r in ((1.2, 1.2), (1 / 1.2, 1 / 1.2), (4.0, 1.5), (0.1, 1 / 1.5)):
        z = x / x.square().mean((0, 2, 3), keepdim=True).sqrt()
        same(layer(factor * x), r * z, 1e-3)  # ε apart


def test_renormalization_undoes_the_average_on_the_way_forward(make, draw, images):
    """If r is within its bounds, r z = x / √(χ̂ + ε), as in evaluation."""
    layer = make("mabn", buffer=2, clip=1e6)
    for seed in range(3):
        layer(draw(images, seed))
    x = draw(images, 3)
    wanted = layer.eval()(x)
    same(layer.train()(x), wanted)


def test_chunks_enter_one_after_the_other(make, draw, images):
    """A batch of two workers is two batches of one, but for χ̂, which moves once."""
    together, alone = make("mabn", buffer=3, batch=2, clip=1), make("mabn", buffer=3, clip=1)
    for seed in range(4):
        x, g = draw(images, seed), draw(images, 10 + seed)
        parts = [step(alone, *part) for part in zip(x.split(2), g.split(2), strict=True)]
        y, grad, *_ = step(together, x, g)
        same(y, torch.cat([part[0] for part in parts]))
        same(grad, torch.cat([part[1] for part in parts]))
    same(together.squares, alone.squares)
    same(together.projections, alone.projections)


def test_workers_share_the_mean_of_their_running_statistics(make, draw, images):
    layer, x = make("mabn", batch=2, buffer=8), draw(images)
    layer(x)
    same(layer.running_square, x.square().mean((0, 2, 3)))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"buffer": 0}, "mabn: buffer must be a whole number ≥ 1; got 0"),
        ({"clip": 0.5}, "mabn: clip must be a finite number ≥ 1; got 0.5"),
        ({"clip": float("inf")}, "mabn: clip must be a finite number ≥ 1; got inf"),
        ({"warmup": 100}, "mabn: warmup must be a number in [0, 1]; got 100"),
    ],
)
def test_what_cannot_be_is_refused(args, message):
    with pytest.raises(norms.NormError) as error:
        norms.build("mabn", 6, **args)
    assert message in str(error.value)


def test_a_single_value_per_statistic_is_refused():
    with pytest.raises(norms.NormError, match="1 image per statistic on a map of 1 position"):
        norms.build("mabn", 6, batch=1).check((8, 6))
