"""BNET: batch norm whose scale is a kernel."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from normbench import norms
from normbench.errors import NormError


def same(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def test_with_a_kernel_of_one_it_is_batch_norm_bit_by_bit(make, draw, shapes):
    for shape in shapes(make("bn")):
        bnet, bn = make("bnet", kernel=1), make("bn")
        assert {name for name, _ in bnet.named_parameters()} == {"weight", "bias"}
        for seed in range(3):
            assert torch.equal(bnet(draw(shape, seed)), bn(draw(shape, seed)))
        assert torch.equal(bnet.eval()(draw(shape, 3)), bn.eval()(draw(shape, 3)))


@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_it_starts_as_batch_norm(draw, images, kernel):
    bnet, bn = (
        norms.build(key, 6, **args).double() for key, args in (("bnet", {"kernel": kernel}), ("bn", {}))
    )
    for seed in range(3):
        same(bnet(draw(images, seed)), bn(draw(images, seed)))
    same(bnet.eval()(draw(images, 3)), bn.eval()(draw(images, 3)))


MODULES = {1: (nn.BatchNorm1d, nn.Conv1d), 2: (nn.BatchNorm2d, nn.Conv2d), 3: (nn.BatchNorm3d, nn.Conv3d)}


@pytest.mark.parametrize("axes", MODULES)
@pytest.mark.parametrize("kernel", [3, 5])
def test_it_is_torchs_batch_norm_and_depthwise_convolution(make, draw, axes, kernel):
    """As the authors put it together."""
    layer = make("bnet", kernel=kernel, axes=axes)
    norm, convolution = MODULES[axes]
    convolution = convolution(6, 6, kernel, padding=kernel // 2, groups=6)
    convolution.weight.data, convolution.bias.data = layer.filters().detach(), layer.bias.detach()
    theirs = nn.Sequential(norm(6, affine=False), convolution).double()
    shape = (4, 6, *(4, 5, 3)[:axes])
    for seed in range(2):
        x, other = (draw(shape, seed).requires_grad_() for _ in range(2))
        y, wanted, g = layer(x), theirs(other), draw(shape, 10 + seed)
        same(y, wanted, 1e-11)
        grads = torch.autograd.grad(y, [x, layer.weight, layer.around, layer.bias], g)
        dx, dw, db = torch.autograd.grad(wanted, [other, convolution.weight, convolution.bias], g)
        dw = dw.flatten(1)
        centre = dw.shape[1] // 2
        around = torch.cat([dw[:, :centre], dw[:, centre + 1 :]], dim=1)
        for got, expected in zip(grads, (dx, dw[:, centre], around, db), strict=True):
            same(got, expected, 1e-10)
    same(layer.eval()(draw(shape, 3)), theirs.eval()(draw(shape, 3)), 1e-11)
    same(layer.running_var, theirs[0].running_var)


def test_the_kernel_is_not_flipped_and_meets_zeros_beyond_the_border(draw, images):
    layer = norms.build("bnet", 6).double()
    with torch.no_grad():
        layer.weight.zero_()
        layer.around[:, 4] = 1  # rows of three: the entry right of the centre
    y, x = layer(draw(images)), norms.build("bn", 6).double()(draw(images))
    same(y[..., :-1], x[..., 1:])
    assert not y[..., -1].any()


def test_a_channel_has_as_many_parameters_as_the_kernel_has_entries_and_one_more():
    for axes, entries in ((1, 5), (2, 25), (3, 125)):
        layer = norms.build("bnet", 6, 2, kernel=5, axes=axes)
        assert sum(p.numel() for p in layer.parameters()) == 12 * (entries + 1)
        assert layer.filters().shape == (12, 1, *(5,) * axes)


def test_without_a_weight_there_is_no_kernel(make, draw, images):
    for affine in (False, "bias"):
        assert torch.equal(make("bnet", affine=affine)(draw(images)), make("bn", affine=affine)(draw(images)))


def test_a_trained_batch_norm_can_be_converted_without_changing_the_model(draw):
    before = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)).double()
    nn.init.uniform_(before[1].weight)
    nn.init.uniform_(before[1].bias)
    for seed in range(3):
        before(draw((4, 3, 6, 6), seed))
    wanted = before.eval()(draw((4, 3, 6, 6), 3))
    same(norms.convert(before, "bnet")(draw((4, 3, 6, 6), 3)), wanted)


def test_the_whole_kernel_is_spared_from_weight_decay_as_a_scale(make):
    assert {make("bnet").roles[name] for name in ("weight", "around")} == {"scale"}


def test_every_worker_has_statistics_of_its_own(make, draw, images):
    x = draw(images)
    wanted = torch.cat([make("bnet")(part) for part in x.split(2)])
    same(make("bnet", batch=2)(x), wanted)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"kernel": 4}, "bnet: kernel must be odd, to have a centre; got 4"),
        ({"kernel": 0}, "bnet: kernel must be a whole number ≥ 1; got 0"),
        ({"kernel": 3.0}, "bnet: kernel must be a whole number ≥ 1; got 3.0"),
        ({"axes": 4}, "bnet: axes must be 1, 2 or 3; got 4"),
    ],
)
def test_an_argument_out_of_range_is_named(args, message):
    with pytest.raises(NormError) as error:
        norms.build("bnet", 6, **args)
    assert str(error.value) == message


@pytest.mark.parametrize("shape", [(8, 6), (8, 6, 1, 1)])
def test_a_kernel_on_a_map_of_one_position_is_refused_and_batch_norm_is_not(shape):
    with pytest.raises(NormError, match=r"for a kernel of 3; got 1\. Set kernel=1, which is bn"):
        norms.build("bnet", 6).check(shape)
    norms.build("bnet", 6, kernel=1).check(shape)
    norms.build("bnet", 6, affine=False).check(shape)
    with pytest.raises(NormError, match="bnet: a statistic must average at least 2 values"):
        norms.build("bnet", 6, kernel=1).check((1, *shape[1:]))


def test_more_than_three_spatial_axes_are_refused():
    with pytest.raises(NormError, match=r"bnet: the input must have at most 3 spatial axes; got 4\. Use bn"):
        norms.build("bnet", 6).check((4, 6, 2, 2, 2, 2))
