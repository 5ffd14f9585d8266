"""Local contrast norm: windows over positions and channels."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from normbench import norms
from normbench.errors import NormError

MAPS = (2, 6, 9, 8)


def same(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("value", [0.1, 1 / 3, -7.7e5])
@pytest.mark.parametrize(
    "args", [{}, {"sigma": 2.25}, {"per_channel": True}, {"mode": "subtractive"}], ids=str
)
def test_a_constant_image_becomes_exactly_zero(make, args, value, dtype):
    x = torch.full(MAPS, value, dtype=dtype)
    assert not make("lcn", dtype=dtype, **args)(x).any()


def test_windows_as_large_as_the_map_are_layer_norm(make, draw, shapes):
    layer = make("lcn", size=9, eps=1e-9)
    for shape in shapes(layer):
        same(layer(draw(shape)), make("ln_chw", affine=False, eps=1e-15)(draw(shape)))


def test_windows_of_one_position_are_layer_norm_of_every_position(make, draw, images):
    layer = make("lcn", size=1, floor="eps", eps=1e-9)
    same(layer(draw(images)), make("ln_c", affine=False, eps=1e-15)(draw(images)))


def test_windows_of_one_channel_as_large_as_the_map_are_instance_norm(make, draw, images):
    layer = make("lcn", size=9, per_channel=True, eps=1e-9)
    same(layer(draw(images)), make("in", affine=False, eps=1e-15)(draw(images)))


def test_contrastive_is_divisive_after_subtractive(make, draw):
    parts = [make("lcn", mode=mode, size=5) for mode in ("subtractive", "divisive")]
    same(make("lcn", size=5)(draw(MAPS)), parts[1](parts[0](draw(MAPS))))


def test_a_flat_window_equals_average_pooling(make, draw):
    x = draw(MAPS)
    mean = F.avg_pool2d(x.mean(1, keepdim=True), 5, 1, 2, count_include_pad=False)
    same(make("lcn", mode="subtractive", size=5)(x), x - mean)


def test_channels_by_themselves_are_images_of_one_channel(make, draw):
    x = draw(MAPS)
    alone = [make("lcn", channels=1, size=5)(x[:, c : c + 1]) for c in range(6)]
    same(make("lcn", size=5, per_channel=True)(x), torch.cat(alone, dim=1))


def test_a_wide_gaussian_window_is_flat(make, draw):
    same(make("lcn", size=5, sigma=1e6)(draw(MAPS)), make("lcn", size=5)(draw(MAPS)), 1e-9)


def test_a_narrow_gaussian_window_is_the_position(make, draw):
    same(make("lcn", size=5, sigma=0.05)(draw(MAPS)), make("lcn", size=1)(draw(MAPS)))


def test_by_default_a_deviation_below_the_mean_deviation_counts_as_that(make, draw):
    x = draw((1, 6, 12, 12))
    x[..., :6] *= 1e-3  # a quiet half
    v = make("lcn", mode="subtractive", size=3)(x)
    divisor = v / make("lcn", size=3)(x)
    sigma = F.avg_pool2d(v.square().mean(1, keepdim=True), 3, 1, 1, count_include_pad=False).sqrt()
    same(divisor, sigma.clamp_min(sigma.mean()).expand_as(x), 1e-9)
    lone = v / make("lcn", size=3, floor="eps")(x)
    same(lone, sigma.expand_as(x), 1e-9)


def test_a_deviation_below_eps_counts_as_eps(make, draw):
    quiet = 1e-3 * draw(MAPS)
    v = make("lcn", mode="subtractive", size=5)(quiet)
    for floor in ("mean", "eps"):
        same(make("lcn", size=5, floor=floor, eps=0.5)(quiet), v / 0.5)


@pytest.mark.parametrize(("mode", "reach"), [("subtractive", 1), ("divisive", 1), ("contrastive", 2)])
def test_a_value_matters_as_far_as_windows_reach(make, draw, mode, reach):
    layer, x = make("lcn", mode=mode, size=3, floor="eps"), draw((1, 6, 11, 11))
    other = x.clone()
    other[0, 2, 5, 5] += 1
    changed = (layer(other) - layer(x)).abs().amax((0, 1)) > 1e-9
    rows, columns = changed.nonzero().T
    assert (rows - 5).abs().max() == (columns - 5).abs().max() == reach


@pytest.mark.parametrize(
    ("mode", "scale", "shift"),
    [("contrastive", True, True), ("subtractive", False, True), ("divisive", True, False)],
)
def test_what_each_mode_is_invariant_to(make, draw, mode, scale, shift):
    layer, x = make("lcn", mode=mode, size=5, eps=1e-12), draw(MAPS)
    y = layer(x)
    assert torch.allclose(layer(3 * x), y, rtol=0, atol=1e-9) == scale
    assert torch.allclose(layer(x + 3), y, rtol=0, atol=1e-9) == shift


@pytest.mark.parametrize("per_channel", [False, True])
def test_lanes_may_differ_in_an_eps_that_matters(make, draw, per_channel):
    every, args = [0.1, 2.0, 5.0], {"size": 3, "floor": "eps", "per_channel": per_channel}
    x = draw(MAPS, lanes=3)
    y = make("lcn", 3, eps=every, **args)(x).unflatten(1, (3, 6))
    for lane, eps in enumerate(every):
        same(y[:, lane], make("lcn", eps=eps, **args)(x.unflatten(1, (3, 6))[:, lane]))


def test_second_derivatives_are_right_too(make, draw):
    layer = make("lcn", channels=2, size=3, sigma=0.8)
    assert torch.autograd.gradgradcheck(layer, draw((1, 2, 3, 3)).requires_grad_())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"mode": "additive"}, "lcn: mode must be contrastive, subtractive or divisive; got 'additive'"),
        ({"floor": 0.1}, "lcn: floor must be mean or eps; got 0.1"),
        ({"size": 8}, "lcn: size must be odd, to have a centre; got 8"),
        ({"size": 0}, "lcn: size must be a whole number ≥ 1; got 0"),
        ({"sigma": 0}, "lcn: sigma must be a finite number > 0; got 0"),
        ({"sigma": "wide"}, "lcn: sigma must be a finite number > 0; got 'wide'"),
        ({"per_channel": 1}, "lcn: per_channel must be true or false; got 1"),
        ({"eps": 0}, "lcn: eps must be a finite number > 0; got 0"),
    ],
)
def test_an_argument_out_of_range_is_named(args, message):
    with pytest.raises(NormError) as error:
        norms.build("lcn", 6, **args)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("channels", "args", "refused", "accepted"),
    [
        (1, {}, (4, 1), (4, 1, 2)),
        (1, {"size": 1}, (4, 1, 5, 5), None),
        (6, {"per_channel": True}, (4, 6, 1, 1), (4, 6, 1, 2)),
        (6, {"per_channel": True, "size": 1}, (4, 6, 5, 5), None),
    ],
)
def test_windows_of_a_single_value_are_refused(channels, args, refused, accepted):
    layer = norms.build("lcn", channels, **args)
    with pytest.raises(
        NormError, match=r"lcn: a statistic must .* over 1 channel on a map of .*; use size ≥ 3"
    ):
        layer.check(refused)
    if accepted:
        layer.check(accepted)


def test_all_channels_of_one_position_are_a_window():
    norms.build("lcn", 6).check((1, 6, 1, 1))
    norms.build("lcn", 6).check((1, 6))
