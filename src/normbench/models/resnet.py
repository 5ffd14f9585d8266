"""Residual nets: ResNet-20 … 110 for small images (he2016, §4.2), ResNet-18, 34 and 50 (he2016, Table 1).

The tables below list the layers of a residual unit in order, by placement; + adds the shortcut (he2016b,
Fig. 4).
"""

from __future__ import annotations

import re

from torch import Tensor, nn

from normbench.errors import InputError
from normbench.models.branch import initial_scales
from normbench.models.builder import Builder
from normbench.models.layers import GlobalAveragePool, Subsample

BASIC = {
    "conv_norm_act":   "conv1 norm1 act conv2 norm2 + act",
    "conv_act_norm":   "conv1 act norm1 conv2 act norm2 +",
    "after_add":       "conv1 norm1 act conv2 + norm2 act",
    "act_before_add":  "conv1 norm1 act conv2 norm2 act +",
    "act_only_preact": "act conv1 norm1 act conv2 norm2 +",
    "norm_act_conv":   "norm1 act conv1 norm2 act conv2 +",
}  # fmt: skip
BOTTLENECK = {
    "conv_norm_act":   "conv1 norm1 act conv2 norm2 act conv3 norm3 + act",
    "conv_act_norm":   "conv1 act norm1 conv2 act norm2 conv3 act norm3 +",
    "after_add":       "conv1 norm1 act conv2 norm2 act conv3 + norm3 act",
    "act_before_add":  "conv1 norm1 act conv2 norm2 act conv3 norm3 act +",
    "act_only_preact": "act conv1 norm1 act conv2 norm2 act conv3 norm3 +",
    "norm_act_conv":   "norm1 act conv1 norm2 act conv2 norm3 act conv3 +",
}  # fmt: skip

#: One entry of the tables. A norm and the activation after it are one, since some norms replace the
#: activation.
LAYER = re.compile(r"norm\d act|\S+")

#: name → (blocks of each stage, bottleneck blocks?)
DEPTHS = {
    **{f"resnet{6 * n + 2}": ((n, n, n), False) for n in (3, 5, 7, 9, 18)},
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
}


class Residual(nn.Module):
    """y = tail(branch(entry(x)) + shortcut(x)). The entry holds the layers before the first convolution.

    Args:
        entry:        norm and activation of pre-activation units, Fixup's bias, or empty.
        branch:       from the first convolution to the addition.
        shortcut:     identity, projection or subsampling.
        tail:         the layers after the addition.
        shared_entry: the shortcut reads the entry's output instead of x. Projections of full pre-activation
                      and of Fixup do, as in the code of he2016b and zhang2019b.
    """

    def __init__(
        self, entry: nn.Module, branch: nn.Module, shortcut: nn.Module, tail: nn.Module, *, shared_entry: bool
    ) -> None:
        super().__init__()
        self.entry, self.branch, self.shortcut, self.tail = entry, branch, shortcut, tail
        self.shared_entry = shared_entry

    def forward(self, x: Tensor) -> Tensor:
        inner = self.entry(x)
        out = self.branch(inner) + self.shortcut(inner if self.shared_entry else x)
        result: Tensor = self.tail(out)
        return result


def resnet(b: Builder) -> nn.Module:
    """Sites stem (not in norm_act_conv), stage1.0.norm1, …, stageS.B.shortcut for every projection with a
    norm, and final (only in norm_act_conv).
    """
    blocks, bottleneck = DEPTHS[b.spec.model.name]
    width = b.spec.model.width or 16
    scale = initial_scales(b.spec, sum(blocks), 3 if bottleneck else 2)
    net, channels = _stem(b, width), width
    for stage, count in enumerate(blocks, 1):
        inner = width * 2 ** (stage - 1)
        for i in range(count):
            stride = 2 if i == 0 and stage > 1 else 1
            net.append(_block(b, f"stage{stage}.{i}", channels, inner, stride, scale))
            channels = inner * (4 if bottleneck else 1)
    if b.spec.placement.name == "norm_act_conv":
        net.extend([*b.fixup_bias(), *b.norm_act("final", channels)])
    elif b.spec.placement.name == "act_only_preact":
        net.append(b.activation())
    return net.extend([GlobalAveragePool(), b.dropout("head"), *b.fixup_bias(), b.head(channels)])


def _stem(b: Builder, width: int) -> nn.Sequential:
    """The first convolution with norm and activation, unless the units begin with them (pre-activation)."""
    placement = b.spec.placement.name
    imagenet = b.spec.model.stem == "imagenet"
    kernel, stride = (7, 2) if imagenet else (3, 1)
    bare = placement == "norm_act_conv"
    read_by = None if bare or placement == "conv_act_norm" else "stem"
    conv = b.conv(
        "stem", b.image.channels, width, kernel, stride=stride, padding=kernel // 2, read_by=read_by
    )
    if bare:
        net = nn.Sequential(conv)
    elif placement == "act_only_preact":  # its activation opens the first block
        net = nn.Sequential(conv, b.norm("stem", width))
    else:
        net = b.unit("stem", conv, width)
    if imagenet:
        net.append(nn.MaxPool2d(3, stride=2, padding=1))
    return net


def _block(b: Builder, name: str, inputs: int, inner: int, stride: int, scale: tuple[float, ...]) -> Residual:
    """A residual unit: basic for two factors in `scale`, bottleneck for three.

    Args:
        b:      the builder.
        name:   of the unit, the prefix of its sites.
        inputs: channels of x.
        inner:  channels of the 3×3 convolutions.
        stride: of the unit.
        scale:  factors of the initial weights, one per convolution.
    """
    placement, bottleneck = b.spec.placement.name, len(scale) == 3
    outputs = inner * (4 if bottleneck else 1)
    # (kernel, stride, output channels) of each convolution; in a bottleneck the 3×3 has the stride, as in
    # torchvision
    shapes = (
        [(1, 1, inner), (3, stride, inner), (1, 1, outputs)]
        if bottleneck
        else [(3, stride, inner), (3, 1, inner)]
    )
    layers = LAYER.findall((BOTTLENECK if bottleneck else BASIC)[placement])
    parts = {"entry": nn.Sequential(), "branch": nn.Sequential(), "tail": nn.Sequential()}
    part, channels, last_norm = "entry", inputs, None
    for position, layer in enumerate(layers):
        if layer == "+":
            parts["branch"].extend(b.branch_scale())
            part = "tail"
        elif layer == "act":
            parts[part].extend([*b.fixup_bias(), b.activation()])
        elif layer.startswith("norm"):
            norm, *act = layer.split()
            site = f"{name}.{norm}"
            modules = b.norm_act(site, channels) if act else (b.norm(site, channels),)
            parts[part].extend([*(b.fixup_bias() if act else ()), *modules])
            if part == "branch":
                last_norm = modules[0]
        else:
            parts[part].extend(b.fixup_bias())
            part, last_norm = "branch", None
            number = int(layer[-1]) - 1
            kernel, conv_stride, width = shapes[number]
            reader = _reader(layers, position)
            conv = b.conv(
                f"{name}.{layer}", channels, width, kernel, stride=conv_stride, padding=kernel // 2,
                read_by=f"{name}.{reader}" if reader else None, scale=scale[number],
            )  # fmt: skip
            parts["branch"].append(conv)
            channels = width
    if b.spec.model.zero_last and b.norm_sites is not None:
        _zero(last_norm, name, placement)
    shortcut = _shortcut(b, name, inputs, outputs, stride)
    # if the unit begins with a convolution, its entry is empty or Fixup's bias
    shared = not isinstance(shortcut, nn.Identity) and (
        layers[0] == "conv1" or (placement == "norm_act_conv" and not isinstance(shortcut, Subsample))
    )
    return Residual(parts["entry"], parts["branch"], shortcut, parts["tail"], shared_entry=shared)


def _reader(layers: list[str], position: int) -> str | None:
    """The norm that reads the output of a convolution, with at most the addition in between."""
    rest = [layer for layer in layers[position + 1 :] if layer != "+"]
    return rest[0].split()[0] if rest and rest[0].startswith("norm") else None


def _shortcut(b: Builder, name: str, inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    if b.spec.model.shortcut == "pad":
        return Subsample(b.lanes, outputs - inputs, stride)
    site = f"{name}.shortcut"
    normalized = b.spec.placement.name not in ("norm_act_conv", "after_add")
    conv = b.conv(site, inputs, outputs, 1, stride=stride, read_by=site if normalized else None)
    return nn.Sequential(conv, b.norm(site, outputs)) if normalized else conv


def _zero(norm: nn.Module | None, name: str, placement: str) -> None:
    weight = getattr(norm, "weight", None)
    if weight is None:
        raise InputError(
            f"model.zero_last needs a norm with γ as the last layer before the addition; block {name} has "
            f"none with placement={placement}, this norm and these sites. Use model.zero_last=false"
        )
    nn.init.zeros_(weight)
