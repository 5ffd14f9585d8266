"""Noisy batch norm: which noise, drawn from what, and that without noise it is batch norm."""

from __future__ import annotations

import copy

import pytest
import torch
from scipy import stats

from normbench import models, norms
from normbench.data.shape import Shape
from normbench.norms.methods.noisy_bn import _two

QUIET = {"n_mu": 0.0, "n_sigma": 1.0, "r_mu": 0.0, "r_sigma": 0.0}
LARGE = (8, 6, 32, 32)


def same(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def noise(layer, shape=LARGE, *, through: float = 0.0):
    """What a step adds to a constant: γ = 0 and β = `through`, so that y = s β + m; (C, values)."""
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.fill_(through)
        y = layer(torch.randn(shape, dtype=layer.weight.dtype))
    return y.transpose(0, 1).flatten(1)


def test_without_noise_it_is_batch_norm(make, draw, shapes):
    quiet, bn = make("noisy_bn", **QUIET), make("bn")
    for shape in shapes(bn):
        same(quiet.train()(draw(shape)), bn.train()(draw(shape)))
        same(quiet.eval()(draw(shape, 1)), bn.eval()(draw(shape, 1)))
    same(quiet.running_mean, bn.running_mean)
    same(quiet.running_var, bn.running_var)


def test_the_noise_leaves_running_statistics_and_evaluation_alone(make, draw, images):
    noisy, bn = make("noisy_bn"), make("bn")
    for seed in range(3):
        assert not torch.allclose(noisy(draw(images, seed)), bn(draw(images, seed)))
    assert torch.equal(noisy.eval()(draw(images)), bn.eval()(draw(images)))
    noisy.source = bn.source = "batch"
    assert torch.equal(noisy(draw(images)), bn(draw(images)))


def test_what_is_added_is_uniform_around_a_mean_that_wanders(make):
    layer = make("noisy_bn")
    means = []
    for _ in range(200):
        shift = noise(layer, (8, 6, 8, 8))
        means.append((shift.amin(1) + shift.amax(1)) / 2)
        assert (shift.amax(1) - shift.amin(1) <= 0.2).all()
    assert stats.kstest(torch.cat(means).numpy(), stats.uniform(-0.5, 1.0).cdf).pvalue > 0.01
    shift = noise(make("noisy_bn", n_mu=0.0))
    assert stats.kstest(shift.flatten().numpy(), stats.uniform(-0.1, 0.2).cdf).pvalue > 0.01


def test_what_is_multiplied_is_normal_around_a_scale_that_wanders(make):
    layer = make("noisy_bn", n_mu=0.0, r_mu=0.0)
    means = [noise(layer, through=1.0).mean(1) for _ in range(40)]
    assert stats.kstest(torch.cat(means).numpy(), stats.uniform(1.0, 0.25).cdf).pvalue > 0.01
    scale = noise(make("noisy_bn", n_mu=0.0, r_mu=0.0, n_sigma=1.0), through=1.0)
    assert stats.kstest(scale.flatten().numpy(), stats.norm(1.0, 0.1).cdf).pvalue > 0.01


def test_noise_is_independent_of_itself(make):
    """Between channels, neighbouring values, and the two numbers that each value gets."""
    layer = make("noisy_bn", n_mu=0.0, n_sigma=1.0, r_mu=0.0)
    scale = noise(layer, through=1.0)
    shift = noise(make("noisy_bn", n_mu=0.0, n_sigma=1.0, r_sigma=0.0), through=1.0)
    several = torch.cat([scale, shift, scale[:1].roll(1, 1), scale[:1].roll(32, 1)])
    correlations = torch.corrcoef(several) - torch.eye(len(several), dtype=torch.float64)
    assert correlations.abs().max() < 5 / scale.shape[1] ** 0.5


def test_every_step_has_its_own_noise(make, draw, images):
    layer = make("noisy_bn")
    assert not torch.allclose(layer(draw(images)), layer(draw(images)))


def test_a_saved_layer_continues_with_the_same_noise(make, draw, images):
    layer = make("noisy_bn", seeds=[4])
    layer(draw(images))
    resumed = make("noisy_bn", seeds=[4])
    resumed.load_state_dict(copy.deepcopy(layer.state_dict()))
    assert torch.equal(resumed(draw(images)), layer(draw(images)))
    assert "keys" not in layer.state_dict()


def test_a_lanes_noise_depends_on_its_seed_and_not_on_its_place(make):
    lone = {seed: noise(make("noisy_bn", seeds=[seed])) for seed in (3, 8)}
    assert not torch.allclose(lone[3], lone[8])
    together = noise(make("noisy_bn", 3, seeds=[8, 3, 8]), (8, 18, 32, 32)).unflatten(0, (3, -1))
    for lane, seed in enumerate((8, 3, 8)):
        assert torch.equal(together[lane], lone[seed])


def test_a_layers_noise_depends_on_its_site(make):
    first, second, back = make("noisy_bn"), make("noisy_bn"), make("noisy_bn")
    second.site = "conv2"
    back.site = "conv2"
    back.site = ""
    assert second.site == "conv2"
    assert not torch.allclose(noise(first), noise(second))
    assert torch.equal(noise(make("noisy_bn")), noise(back))


def test_networks_tell_their_layers_seed_and_site(make_spec):
    specs = [make_spec("model=lenet5", "norm=noisy_bn", "batch=4", f"seed={seed}") for seed in (5, 1)]
    layers = models.build(specs, Shape(1, 32, 10, 1, 1)).norms()
    assert {layer.seeds for layer in layers.values()} == {(5, 1)}
    assert [layer.site for layer in layers.values()] == list(layers)
    assert len({key for layer in layers.values() for key in layer.keys.tolist()}) == 2 * len(layers)


def test_momentum_does_not_change_training(make, draw, images):
    slow, fast = make("noisy_bn", momentum=0.01), make("noisy_bn", momentum=0.9)
    for seed in range(3):
        assert torch.equal(slow(draw(images, seed)), fast(draw(images, seed)))


def test_fp32_and_fp64_have_the_same_noise(make):
    for through in (0.0, 1.0):
        narrow, wide = (
            noise(make("noisy_bn", dtype=dtype), through=through) for dtype in (torch.float32, torch.float64)
        )
        same(narrow.double(), wide, 2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_most_extreme_bits_give_finite_numbers(dtype):
    extremes = torch.tensor([0.0, 1 - 2.0**-53, 2.0**-29 - 2.0**-53, 2.0**-53], dtype=torch.float64)
    flat, normal = _two(extremes, dtype)
    assert ((flat >= 0) & (flat <= 1)).all()
    assert normal.isfinite().all()
    assert 5.3 < normal.abs().max() < 5.5


@pytest.mark.parametrize(("args", "message"), [
    ({"n_mu": -0.1}, "n_mu must be a finite number ≥ 0; got -0.1"),
    ({"n_sigma": 0.5}, "n_sigma must be a finite number ≥ 1; got 0.5"),
    ({"r_mu": float("inf")}, "r_mu must be a finite number ≥ 0; got inf"),
    ({"r_sigma": "little"}, "r_sigma must be a finite number ≥ 0; got 'little'"),
    ({"seeds": [1, 2]}, "seeds must be one value or one per lane; got 2 values for 1 lanes"),
])  # fmt: skip
def test_an_argument_out_of_range_is_named(args, message):
    with pytest.raises(norms.NormError, match=f"noisy_bn: {message}"):
        norms.build("noisy_bn", 6, **args)
