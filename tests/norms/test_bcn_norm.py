"""Batch-channel norm: batch norm and groups, by the batch's own statistics or by running estimates."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from normbench import norms
from normbench.errors import NormError

BOTH = ("bcn", "bcn_est")


def same(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def grouped(z, layer):
    """Group norm with the scale and shift of every group."""
    weight, bias = (p.repeat_interleave(layer.group_size) for p in (layer.group_weight, layer.group_bias))
    return F.group_norm(z, layer.num_groups, weight, bias, layer.eps)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_it_is_torchs_batch_norm_and_group_norm(make, draw, shapes, groups):
    layer = make("bcn", num_groups=groups)
    for shape in shapes(layer):
        x, other = (draw(shape).requires_grad_() for _ in range(2))
        z = F.batch_norm(other, None, None, layer.weight, layer.bias, training=True)
        y, wanted, g = layer(x), grouped(z, layer), draw(shape, 1)
        same(y, wanted)
        parameters = list(layer.parameters())
        got = torch.autograd.grad(y, [x, *parameters], g)
        for a, b in zip(got, torch.autograd.grad(wanted, [other, *parameters], g), strict=True):
            same(a, b, 1e-11)


@pytest.mark.parametrize("key", BOTH)
@pytest.mark.parametrize("lanes", [1, 2])
def test_scale_and_shift_of_the_groups_follow_affine(key, lanes):
    def shapes(affine):
        layer = norms.build(key, 6, lanes, num_groups=3, affine=affine)
        return {name: p.numel() // lanes for name, p in layer.named_parameters()}

    assert shapes(True) == {"weight": 6, "bias": 6, "group_weight": 3, "group_bias": 3}
    assert shapes("weight") == {"weight": 6, "group_weight": 3}
    assert shapes("bias") == {"bias": 6, "group_bias": 3}
    assert shapes(False) == {}


@pytest.mark.parametrize("key", BOTH)
def test_only_scales_and_shifts_are_learned(key):
    roles = norms.build(key, 6).roles
    assert (roles["group_weight"], roles["group_bias"]) == ("scale", "shift")


def test_with_one_group_it_is_batch_norm_and_layer_norm(make, draw, images):
    z = make("bn", affine=False)(draw(images))
    same(make("bcn", num_groups=1, affine=False)(draw(images)), make("ln_chw", affine=False)(z))


def test_with_a_group_per_channel_it_is_batch_norm_and_instance_norm(make, draw, images):
    z = make("bn", affine=False)(draw(images))
    same(make("bcn", group_size=1, affine=False)(draw(images)), make("in", affine=False)(z))


def test_the_running_statistics_are_those_of_batch_norm(make, draw, images):
    bcn, bn = make("bcn", batch=2), make("bn", batch=2)
    for seed in range(3):
        bcn(draw(images, seed))
        bn(draw(images, seed))
    for name, buffer in bn.named_buffers():
        assert torch.equal(bcn.get_buffer(name), buffer)


@pytest.mark.parametrize("key", BOTH)
def test_groups_are_divisors_of_the_channels(key):
    with pytest.raises(
        NormError, match=f"{key}: num_groups must divide the channels; got num_groups=4 for 6"
    ):
        norms.build(key, 6, num_groups=4)
    with pytest.raises(NormError, match=f"{key}: give num_groups or group_size, not both"):
        norms.build(key, 6, num_groups=2, group_size=3)
    assert norms.build(key, 64).group_size == 16


@pytest.mark.parametrize("key", BOTH)
def test_a_group_of_a_single_value_is_refused(key):
    with pytest.raises(NormError, match=f"{key}: a statistic must .* a group of 1 channel on a map of 1"):
        norms.build(key, 6, group_size=1).check((8, 6, 1, 1))
    norms.build(key, 6, group_size=1).check((8, 6, 2, 1))


def test_a_single_value_per_channel_is_for_estimates_alone(draw):
    with pytest.raises(NormError, match=r"bcn: a statistic must .* 1 image per statistic on a map of 1"):
        norms.build("bcn", 6).check((1, 6, 1, 1))
    norms.build("bcn_est", 6).check((1, 6, 1, 1))
    assert norms.build("bcn_est", 6).double()(draw((1, 6, 1, 1))).isfinite().all()


def test_estimates_that_never_move_are_an_affine_map_before_the_groups(make, draw, images):
    """As in the authors' code, whose speed is 0."""
    layer = make("bcn_est", momentum=0.0, eps=1e-15)
    for seed in range(3):
        x = draw(images, seed)
        z = x * layer.weight.view(1, -1, 1, 1) + layer.bias.view(1, -1, 1, 1)
        same(layer(x), grouped(z, layer))
    assert not layer.running_mean.any()
    assert layer.running_var.eq(1).all()


def test_at_speed_one_the_variance_is_about_the_old_mean(make, draw, images):
    layer = make("bcn_est", momentum=1.0)
    first, second = draw(images), draw(images, 1)
    layer(first)
    same(layer.running_var, first.square().mean((0, 2, 3)))
    layer(second)
    same(layer.running_mean, second.mean((0, 2, 3)))
    off = second.mean((0, 2, 3)) - first.mean((0, 2, 3))
    same(layer.running_var, second.var((0, 2, 3), correction=0) + off.square())


def test_on_a_batch_that_repeats_itself_estimates_become_that_batch(make, draw, images):
    estimated = make("bcn_est", momentum=0.3)
    for _ in range(120):
        y = estimated(draw(images))
    same(y, make("bcn")(draw(images)), 1e-11)


def test_training_moves_the_estimates_first_and_then_is_evaluation(make, draw, images):
    layer, g = make("bcn_est", momentum=0.3), draw(images, 1)
    x = draw(images).requires_grad_()
    trained = layer(x)
    evaluated = layer.eval()(x)
    same(trained, evaluated)
    for a, b in zip(*(torch.autograd.grad(y, x, g) for y in (trained, evaluated)), strict=True):
        same(a, b)  # no gradient passes through the estimates


def test_workers_move_the_estimates_each_by_its_own_images(make, draw, images):
    together, alone = make("bcn_est", batch=2), [make("bcn_est") for _ in range(2)]
    for seed in range(3):
        x = draw(images, seed)
        parts = [layer(part) for layer, part in zip(alone, x.split(2), strict=True)]
        same(together(x), torch.cat(parts))
        for name in ("running_mean", "running_var"):
            mean = sum(layer.get_buffer(name) for layer in alone) / 2
            same(together.get_buffer(name), mean)
            for layer in alone:
                layer.get_buffer(name).copy_(mean)
    assert together.num_batches_tracked == 3


def test_two_calls_before_one_backward_pass_keep_their_own_estimates(make, draw, images):
    layer = make("bcn_est")
    x = draw(images).requires_grad_()
    first, second = layer(x), layer(2 * x)
    together = torch.autograd.grad((first.square() + second.square()).sum(), x)[0]
    again = make("bcn_est")
    apart = torch.autograd.grad(again(x).square().sum(), x)[0]
    apart = apart + torch.autograd.grad(again(2 * x).square().sum(), x)[0]
    same(together, apart)


def test_evaluation_of_estimates_by_batch_statistics_is_batch_channel_norm(make, draw, images):
    layer = make("bcn_est", batch=2)
    layer(draw(images, 1))
    layer.eval().source = "batch"
    same(layer(draw(images)), make("bcn", batch=2)(draw(images)))
    assert layer.num_batches_tracked == 1


@pytest.mark.parametrize(("key", "invariant"), [("bcn", True), ("bcn_est", False)])
@pytest.mark.parametrize("change", [lambda x: 3 * x, lambda x: x + 3], ids=["scale", "shift"])
def test_only_statistics_of_the_batch_make_it_invariant(make, draw, images, key, invariant, change):
    one, other = make(key, eps=1e-12), make(key, eps=1e-12)
    close = torch.allclose(one(change(draw(images))), other(draw(images)), rtol=0, atol=1e-9)
    assert close == invariant
