"""The algorithms for the convolutions of a stack give the same numbers for every shape."""

from __future__ import annotations

import pytest
import torch

from engine.kernels import Kernels
from normbench import weight_norms
from normbench.models.convolution import ALGORITHMS
from normbench.models.layers import Conv2d

#: Cin, Cout, kernel, stride, padding, size
SHAPES = {
    "5×5": (2, 3, 5, 1, 0, 9),
    "strided and padded": (3, 4, 3, 2, 1, 9),
    "1×1": (4, 2, 1, 1, 0, 5),
    "strided 1×1": (4, 2, 1, 2, 0, 7),
    "padded 1×1": (2, 2, 1, 1, 1, 4),
    "whole image": (2, 3, 4, 1, 0, 4),
}


def layer(shape, lanes, bias=True, weight="none", seed=0):
    inputs, outputs, kernel, stride, padding, _ = shape
    generator = torch.Generator().manual_seed(seed)
    size = (lanes * outputs, inputs, kernel, kernel)
    values = torch.randn(size, generator=generator, dtype=torch.float64)
    mapped = weight_norms.build(weight, values, lanes).double()
    conv = Conv2d(values, bias, mapped, lanes, stride=stride, padding=padding)
    if bias:
        torch.nn.init.normal_(conv.bias, generator=generator)
    return conv


def images(shape, lanes, order):
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(3, lanes * shape[0], shape[-1], shape[-1], generator=generator, dtype=torch.float64)
    return x.contiguous(memory_format=order)


def outcome(conv, x):
    """The output, and the gradients of a weighted sum of it."""
    x = x.clone().requires_grad_()
    y = conv(x)
    ramp = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    return y, *torch.autograd.grad((y * ramp).sum(), [x, *conv.parameters()])


def test_matmul_copies_the_windows_once_and_multiplies_once_whatever_the_lanes_and_images():
    shape = SHAPES["5×5"]
    for images_per_step, lanes in ((1, 2), (3, 4)):
        conv, x = layer(shape, lanes, bias=False), images(shape, lanes, torch.contiguous_format)
        conv.algorithm = "matmul"
        with Kernels() as seen, torch.no_grad():
            conv(x[:images_per_step])
        assert seen.calls["bmm"] == 1
        assert seen.calls.total() <= 3  # the windows, the product, and the order of its result


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_algorithm_gives_the_numbers_of_lone_lanes(shape, algorithm, bias, order):
    conv, x = layer(shape, 3, bias).to(memory_format=order), images(shape, 3, order)
    conv.algorithm = algorithm
    y, gradient, weight, *rest = outcome(conv, x)
    ramp = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    for k in range(3):
        x_k = x.unflatten(1, (3, -1))[:, k].clone().requires_grad_()
        own = [p.detach().unflatten(0, (3, -1))[k].clone().requires_grad_() for p in conv.parameters()]
        alone = torch.nn.functional.conv2d(
            x_k, own[0], own[1] if bias else None, conv.stride, conv.padding
        )  # fmt: skip
        torch.testing.assert_close(y.unflatten(1, (3, -1))[:, k], alone, rtol=1e-12, atol=1e-12)
        wanted = torch.autograd.grad((alone * ramp.unflatten(1, (3, -1))[:, k]).sum(), [x_k, *own])
        found = [gradient.unflatten(1, (3, -1))[:, k]]
        found += [g.unflatten(0, (3, -1))[k] for g in (weight, *rest)]
        torch.testing.assert_close(found, list(wanted), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", sorted(weight_norms.REGISTRY))
def test_every_algorithm_uses_the_mapped_weight(kind):
    shape = SHAPES["strided and padded"]
    made = []
    for algorithm in ALGORITHMS:
        conv = layer(shape, 2, weight=kind)
        conv.algorithm = algorithm
        made.append((*outcome(conv, images(shape, 2, torch.contiguous_format)), *conv.state_dict().values()))
    for other in made[1:]:
        torch.testing.assert_close(other, made[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_output_has_the_memory_format_of_the_input(algorithm, order):
    shape = SHAPES["strided and padded"]
    conv = layer(shape, 3).to(memory_format=order)
    conv.algorithm = algorithm
    assert conv(images(shape, 3, order)).is_contiguous(memory_format=order)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_lane_is_bit_identical_to_torchs_convolution(algorithm):
    shape = SHAPES["5×5"]
    conv, x = layer(shape, 1), images(shape, 1, torch.contiguous_format)
    conv.algorithm = algorithm
    assert torch.equal(conv(x), torch.nn.functional.conv2d(x, conv.weight, conv.bias))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_output_under_autocast_is_bf16_with_a_bias_too(algorithm):
    shape = SHAPES["strided and padded"]
    conv = layer(shape, 2).float()
    conv.algorithm = algorithm
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = conv(images(shape, 2, torch.contiguous_format).float())
    assert y.dtype == torch.bfloat16
