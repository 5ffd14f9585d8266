"""Every placement against the same network in plain torch, for one run, with the same weights, in float64.

The networks below share no code with `normbench.models`. Each placement is written out from the papers; they
take the parameters in the order of registration and check that none is left over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from normbench import models
from normbench.data.shape import Shape

EPS = 1e-2
RESIDUAL = (
    "conv_norm_act", "conv_act_norm", "norm_act_conv", "after_add", "act_before_add", "act_only_preact",
)  # fmt: skip
PLAIN = ("conv_norm_act", "conv_act_norm", "conv_act_pool_norm")
PREACTIVATION = ("norm_act_conv", "act_only_preact")
ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}


class Layers:
    """Plain layers that take their parameters from a list, one after another.

    Args:
        parameters: all of a network.
        norm:       bn (statistics of the batch), gn (two groups) or none.
        act:        the activation.
        bias:       every convolution and hidden linear layer has a bias; None: as each call says.
    """

    def __init__(self, parameters: list[Tensor], norm: str, act: str, bias: bool | None) -> None:
        self.parameters: Iterator[Tensor] = iter(parameters)
        self.norm_name, self.act, self.bias = norm, ACTIVATIONS[act], bias

    def conv(self, x: Tensor, stride: int = 1, padding: int | None = None, *, bias: bool) -> Tensor:
        weight = next(self.parameters)
        own_bias = next(self.parameters) if self._has_bias(bias) else None
        return F.conv2d(x, weight, own_bias, stride, weight.shape[-1] // 2 if padding is None else padding)

    def linear(self, x: Tensor, *, bias: bool) -> Tensor:
        weight = next(self.parameters)[0]
        return F.linear(x, weight, next(self.parameters)[0] if self._has_bias(bias) else None)

    def _has_bias(self, bias: bool) -> bool:
        if self.bias is not None:
            return self.bias
        return bias or self.norm_name == "none"

    def norm(self, x: Tensor) -> Tensor:
        if self.norm_name == "none":
            return x
        weight, bias = next(self.parameters), next(self.parameters)
        if self.norm_name == "gn":
            return F.group_norm(x, 2, weight, bias, EPS)
        return F.batch_norm(x, None, None, weight, bias, training=True, eps=EPS)

    def head(self, x: Tensor) -> Tensor:
        y = F.linear(x, next(self.parameters)[0], next(self.parameters)[0])
        assert next(self.parameters, None) is None, "parameters are left over"
        return y


@dataclass(frozen=True)
class ResNet:
    """A ResNet (he2016) with the units of he2016b, Figure 4.

    Attributes:
        blocks:     units of each stage.
        bottleneck: three convolutions a unit instead of two.
        shortcut:   pad (option A) or conv (option B).
        imagenet:   a 7×7 convolution of stride 2 and max-pooling come first.
        old_stem:   the first activation of pre-activation nets stands in the first branch.
    """

    placement: str
    blocks: tuple[int, ...]
    bottleneck: bool
    shortcut: str
    imagenet: bool = False
    old_stem: bool = False

    def __call__(self, layers: Layers, x: Tensor) -> Tensor:
        norm, act = layers.norm, layers.act
        x = self.stem(layers, x)
        if self.imagenet:
            x = F.max_pool2d(x, 3, 2, 1)
        inner = x.shape[1]
        first = not self.old_stem
        for stage, count in enumerate(self.blocks):
            for i in range(count):
                stride = 2 if stage > 0 and i == 0 else 1
                outputs = (4 if self.bottleneck else 1) * inner * 2**stage
                strides = (1, stride, 1) if self.bottleneck else (stride, 1)
                skip = Skip(layers, stride, outputs, self.shortcut)
                x = UNITS[self.placement](layers, x, strides, skip, first)
                first = False
        if self.placement == "norm_act_conv":
            x = act(norm(x))
        elif self.placement == "act_only_preact":
            x = act(x)
        return layers.head(x.mean((2, 3)))

    def stem(self, layers: Layers, x: Tensor) -> Tensor:
        """he2016b, appendix: pre-activation nets activate once before the paths split, as all others do."""
        stride = 2 if self.imagenet else 1
        if self.placement == "conv_act_norm":
            return layers.norm(layers.act(layers.conv(x, stride, bias=True)))
        x = layers.conv(x, stride, bias=False)
        if self.old_stem:
            return x if self.placement == "norm_act_conv" else layers.norm(x)
        return layers.act(layers.norm(x))


@dataclass(frozen=True)
class Skip:
    """The shortcut: identity, option A (zero padding) or option B (a projection)."""

    layers: Layers
    stride: int
    outputs: int
    kind: str

    def projects(self, x: Tensor) -> bool:
        return self.kind == "conv" and (self.stride != 1 or x.shape[1] != self.outputs)

    def __call__(self, x: Tensor, *, normalized: bool) -> Tensor:
        if self.projects(x):
            y = self.layers.conv(x, self.stride, bias=False)
            return self.layers.norm(y) if normalized else y
        x = x[:, :, :: self.stride, :: self.stride]
        zeros = x.new_zeros(x.shape[0], self.outputs - x.shape[1], *x.shape[2:])
        return torch.cat((x, zeros), 1)


def conv_norm_act(layers, x, strides, skip, first):
    y = x
    for stride in strides[:-1]:
        y = layers.act(layers.norm(layers.conv(y, stride, bias=False)))
    y = layers.norm(layers.conv(y, strides[-1], bias=False))
    return layers.act(y + skip(x, normalized=True))


def conv_act_norm(layers, x, strides, skip, first):
    y = x
    for stride in strides:
        y = layers.norm(layers.act(layers.conv(y, stride, bias=True)))
    return y + skip(x, normalized=True)


def act_before_add(layers, x, strides, skip, first):
    y = x
    for stride in strides:
        y = layers.act(layers.norm(layers.conv(y, stride, bias=False)))
    return y + skip(x, normalized=True)


def after_add(layers, x, strides, skip, first):
    y = x
    for stride in strides[:-1]:
        y = layers.act(layers.norm(layers.conv(y, stride, bias=False)))
    y = layers.conv(y, strides[-1], bias=False)
    return layers.act(layers.norm(y + skip(x, normalized=False)))


def act_only_preact(layers, x, strides, skip, first):
    y = x
    for number, stride in enumerate(strides):
        if not (first and number == 0):  # the stem is activated already
            y = layers.act(y)
        y = layers.norm(layers.conv(y, stride, bias=False))
    return y + skip(x, normalized=True)


def norm_act_conv(layers, x, strides, skip, first):
    entry = x if first else layers.act(layers.norm(x))
    y = layers.conv(entry, strides[0], bias=False)
    for stride in strides[1:]:
        y = layers.conv(layers.act(layers.norm(y)), stride, bias=False)
    return y + skip(entry if skip.projects(x) else x, normalized=False)


UNITS = {
    unit.__name__: unit
    for unit in (conv_norm_act, conv_act_norm, act_before_add, after_add, act_only_preact, norm_act_conv)
}


def lenet5(layers: Layers, x: Tensor, placement: str) -> Tensor:
    for _ in range(2):
        x = plain_unit(layers, layers.conv, x, placement, pool=True, padding=0)
    x = x.flatten(1)
    for _ in range(2):
        x = plain_unit(layers, layers.linear, x, placement)
    return layers.head(x)


def vgg11(layers: Layers, x: Tensor, placement: str) -> Tensor:
    for convolutions in (1, 1, 2, 2, 2):
        for i in range(convolutions):
            x = plain_unit(layers, layers.conv, x, placement, pool=i == convolutions - 1)
    return layers.head(x.flatten(1))


def plain_unit(layers: Layers, layer, x: Tensor, placement: str, pool: bool = False, **more) -> Tensor:
    def pooled(x: Tensor) -> Tensor:
        return F.max_pool2d(x, 2) if pool else x

    if placement == "conv_act_pool_norm":
        return layers.norm(pooled(layers.act(layer(x, bias=True, **more))))
    if placement == "conv_act_norm":
        return pooled(layers.norm(layers.act(layer(x, bias=True, **more))))
    return pooled(layers.act(layers.norm(layer(x, bias=False, **more))))


def built(make_spec, image: Shape, *words: str):
    """A network of one run whose parameters have all moved away from 0 and 1."""
    network = models.build([make_spec(*words, f"norm.eps={EPS}", "batch=4")], image).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in network.parameters():
            p += 0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return network


def assert_equal(network, oracle, image: Shape, norm: str, act: str, bias: bool | None) -> None:
    """The same logits, and the same gradients of every parameter and of the images."""
    shape = (4, image.channels, image.size, image.size)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    results = []
    for run in (network, lambda x: oracle(Layers(list(network.parameters()), norm, act, bias), x)):
        images = x.clone().requires_grad_()
        logits = run(images).flatten(1)
        slopes = torch.linspace(-1, 1, logits.numel(), dtype=x.dtype).view(logits.shape)
        wanted = [images, *network.parameters()]
        results.append((logits, torch.autograd.grad((logits * slopes).sum(), wanted)))
    (logits, gradients), (true_logits, true_gradients) = results
    assert (logits - true_logits).norm() <= 1e-10 * true_logits.norm()
    for name, got, true in zip(
        ["images", *dict(network.named_parameters())], gradients, true_gradients, strict=True
    ):
        # a bias that a norm removes has a gradient of 0 but for rounding
        assert (got - true).norm() <= 1e-8 * (true.norm() + 1e-3), name


RESNETS = {
    "resnet20": ((3, 3, 3), False),
    "resnet18": ((2, 2, 2, 2), False),
    "resnet50": ((3, 4, 6, 3), True),
}


def assert_resnet_equal(make_spec, placement, model, shortcut, norm, act, bias, *, size=16, **stem):
    image = Shape(3, size, 10, 1, 1)
    words = [f"model={model}", "model.width=4", f"model.shortcut={shortcut}", f"placement={placement}"]
    words += [f"norm={norm}", f"model.activation={act}"]
    words += ["norm.args.num_groups=2"] if norm == "gn" else []
    words += [] if bias is None else [f"model.bias={str(bias).lower()}"]
    words += ["model.stem=imagenet"] if stem.get("imagenet") else []
    words += ["model.stem_activation=in_branch"] if stem.get("old_stem") else []
    oracle = ResNet(placement, *RESNETS[model], shortcut, **stem)
    assert_equal(built(make_spec, image, *words), oracle, image, norm, act, bias)


@pytest.mark.parametrize(
    ("model", "shortcut", "norm", "act", "bias"),
    [
        ("resnet20", "pad", "bn", "relu", None),
        ("resnet20", "pad", "bn", "tanh", True),
        ("resnet20", "conv", "gn", "relu", None),
        ("resnet18", "conv", "bn", "relu", False),
        ("resnet50", "conv", "bn", "relu", None),
        ("resnet20", "pad", "none", "tanh", None),
    ],
)
@pytest.mark.parametrize("placement", RESIDUAL)
def test_residual_nets_equal_plain_torch(make_spec, placement, model, shortcut, norm, act, bias):
    assert_resnet_equal(make_spec, placement, model, shortcut, norm, act, bias)


@pytest.mark.parametrize("placement", RESIDUAL)
def test_residual_nets_with_the_stem_of_imagenet_equal_plain_torch(make_spec, placement):
    assert_resnet_equal(make_spec, placement, "resnet18", "conv", "bn", "relu", None, size=64, imagenet=True)


@pytest.mark.parametrize(
    ("model", "shortcut", "norm"),
    [("resnet20", "pad", "bn"), ("resnet20", "conv", "gn"), ("resnet50", "conv", "bn")],
)
@pytest.mark.parametrize("placement", PREACTIVATION)
def test_the_first_activation_can_stand_in_the_first_branch(make_spec, placement, model, shortcut, norm):
    assert_resnet_equal(make_spec, placement, model, shortcut, norm, "relu", None, old_stem=True)


@pytest.mark.parametrize(
    ("norm", "act", "bias"), [("bn", "relu", None), ("gn", "sigmoid", None), ("bn", "tanh", True)]
)
@pytest.mark.parametrize("oracle", [lenet5, vgg11], ids=lambda oracle: oracle.__name__)
@pytest.mark.parametrize("placement", PLAIN)
def test_plain_nets_equal_plain_torch(make_spec, placement, oracle, norm, act, bias):
    if oracle is vgg11 and act == "sigmoid":
        pytest.skip("ten sigmoids in a row leave no gradient to compare")
    image = Shape(1, 32, 10, 1, 1)
    words = [f"model={oracle.__name__}", f"placement={placement}", f"norm={norm}", f"model.activation={act}"]
    words += ["norm.args.num_groups=2"] if norm == "gn" else []
    words += ["model.width=4"] if oracle is vgg11 else []
    words += [] if bias is None else [f"model.bias={str(bias).lower()}"]
    network = built(make_spec, image, *words)
    assert_equal(network, lambda layers, x: oracle(layers, x, placement), image, norm, act, bias)
