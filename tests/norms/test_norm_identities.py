"""Norms that are special cases of each other, and the invariances of each norm."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from normbench import norms


def same(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def test_ghosts_as_large_as_the_batch_are_batch_norm(make, draw, images):
    ghost, bn = make("ghost", ghost_size=4), make("bn")
    for seed in range(3):
        same(ghost(draw(images, seed)), bn(draw(images, seed)))
    same(ghost.running_mean, bn.running_mean)
    same(ghost.running_var, bn.running_var)


def test_ghosts_of_one_image_are_instance_norm(make, draw, images):
    same(make("ghost", ghost_size=1)(draw(images)), make("in")(draw(images)))


def test_batch_norm_of_one_image_is_instance_norm(make, draw, images):
    x = draw(images)[:1]
    same(make("bn")(x), make("in")(x))


def test_group_norm_with_a_group_per_channel_is_instance_norm(make, draw, images):
    same(make("gn", group_size=1)(draw(images)), make("in")(draw(images)))


def test_group_norm_with_one_group_is_layer_norm_over_the_image(make, draw, shapes):
    layer = make("ln_chw")
    for shape in shapes(layer):
        same(make("gn", num_groups=1)(draw(shape)), layer(draw(shape)))


@pytest.mark.parametrize("channels", [6, 20])
def test_without_spatial_axes_both_layer_norms_agree(make, draw, channels):
    x = draw((4, channels))
    same(make("ln_c", channels=channels)(x), make("ln_chw", channels=channels)(x))


def test_instance_norm_of_one_channel_is_layer_norm_over_the_image(make, draw):
    x = draw((4, 1, 5, 4))
    same(make("in", channels=1)(x), make("ln_chw", channels=1)(x))


def test_batch_norm_of_centred_channels_is_its_variance_only_half(make, draw, images):
    x = draw(images)
    x = x - x.mean((0, 2, 3), keepdim=True)
    same(make("bn")(x), make("bn", center=False)(x))


def test_extended_batch_norm_of_channels_with_equal_moments_is_batch_norm(make, draw, images):
    x = make("bn", affine=False, eps=1e-15)(draw(images))
    same(make("ebn")(x), make("bn")(x))


def test_instance_norm_is_batch_norm_with_every_image_as_a_batch(make, draw, images):
    alone = torch.cat([make("bn")(image) for image in draw(images).split(1)])
    same(make("in")(draw(images)), alone)


def test_rms_norm_of_centred_channels_is_layer_norm_without_shift(make, draw, images):
    x = draw(images)
    x = x - x.mean(1, keepdim=True)
    same(make("rms")(x), make("ln_c", affine="weight")(x))


def test_local_response_norm_without_alpha_divides_by_a_constant(make, draw, images):
    x = draw(images)
    same(make("lrn", alpha=0.0, k=3.0, beta=0.5)(x), x / 3**0.5)


def test_local_response_norm_of_one_channel_sees_that_channel_alone(make, draw, images):
    x = draw(images)
    same(make("lrn", size=1, alpha=2.0, k=1.0, beta=1.0)(x), x / (1 + 2 * x.square()))


def test_affine_is_what_batch_norm_does_with_its_initial_running_statistics(make, draw, images):
    same(make("bn", eps=1e-15).eval()(draw(images)), make("affine")(draw(images)))


def test_permuting_the_channels_of_a_group_permutes_its_output(make, draw, images):
    layer, x = make("gn", group_size=3, affine=False), draw(images)
    order = [2, 0, 1, 5, 3, 4]
    same(layer(x[:, order]), layer(x)[:, order])


@pytest.mark.parametrize("change", ["scale", "shift"])
def test_declared_invariances_hold_and_no_others(key, make, draw, images, oracle, change):
    """In both directions, so that every invariance is declared."""
    eps = {"eps": 1e-12} if "eps" in norms.entry(key).arguments else {}
    x = draw(images)
    changed = 3 * x if change == "scale" else x + 3
    close = torch.allclose(make(key, **eps)(changed), make(key, **eps)(x), rtol=0, atol=1e-7)
    assert close == (change in getattr(oracle, "INVARIANT", ()))


#: Factors of the weight before a norm: one for all filters, or one each.
FACTORS = {"weight": 3.0, "filters": (1.0, 2.0, 3.0, 0.5, 1.5, 4.0)}


def after_convolution(layer, draw, factors) -> tuple[torch.Tensor, torch.Tensor]:
    """Output of a new norm after a convolution whose weight has these factors, and the weight's gradient."""
    conv = nn.Conv2d(3, 6, 3, bias=False).double()
    with torch.no_grad():
        conv.weight.copy_(draw(conv.weight.shape, 1) * factors)
    layer.follow(conv)
    y = layer(conv(draw((4, 3, 6, 5), 2)))
    (grad,) = torch.autograd.grad((y * draw(y.shape, 3)).sum(), conv.weight)
    return y.detach(), grad


@pytest.mark.parametrize("change", FACTORS)
def test_the_scale_of_the_weight_before_a_norm_counts_exactly_where_that_is_declared(
    key, make, draw, oracle, change
):
    """f(c·w) = f(w) and ∂f(c·w) = ∂f(w) / c in both directions, so that every invariance is declared."""
    eps = {"eps": 1e-12} if "eps" in norms.entry(key).arguments else {}
    factors = torch.tensor(FACTORS[change], dtype=torch.float64).view(-1, 1, 1, 1)
    (y, grad), (scaled, scaled_grad) = (
        after_convolution(make(key, **eps), draw, f) for f in (torch.ones_like(factors), factors)
    )
    declared = change in getattr(oracle, "INVARIANT", ())
    assert torch.allclose(scaled, y, rtol=0, atol=1e-7) == declared
    if declared:
        same(factors * scaled_grad, grad, 1e-6 * grad.abs().max().item())


@pytest.mark.parametrize("key", ["bn", "ghost", "in", "gn", "ln_chw"])
def test_a_filter_before_a_scale_invariant_norm_has_a_gradient_across_itself(make, draw, key):
    layer = make(key, eps=1e-12)
    filters = draw((6, 3, 3, 3)).requires_grad_()
    y = layer(torch.nn.functional.conv2d(draw((4, 3, 6, 6), 1), filters))
    (grad,) = torch.autograd.grad((y * draw(y.shape, 2)).sum(), filters)
    across = (grad * filters).sum() / (grad.norm() * filters.norm())
    assert abs(across) < 1e-9
