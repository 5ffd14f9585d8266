"""Residual nets: ResNet-20 … 110 for small images (he2016, §4.2), ResNet-18 … 152 (he2016, Table 1).

The tables below list the layers of a residual unit in order, by placement; + adds the shortcut (he2016b,
Fig. 4).

Units that begin with an activation (pre-activation) follow he2016b, appendix: the first activation of the net
stands right after the first convolution, before the paths split, so the first shortcut reads it, too.
`model.stem_activation=in_branch` leaves it in the branch of the first unit; its shortcut then reads the
output of the first convolution, or of the norm after that in act_only_preact.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import Tensor, nn

from normbench.errors import InputError
from normbench.groups import PREACTIVATION
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
    "resnet101": ((3, 4, 23, 3), True),
    "resnet152": ((3, 8, 36, 3), True),
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


@dataclass(frozen=True)
class Unit:
    """A residual unit.

    Attributes:
        name:    the prefix of its sites.
        inputs:  channels that it reads.
        inner:   channels of its 3×3 convolutions.
        outputs: channels that it returns.
        stride:  of the unit.
    """

    name: str
    inputs: int
    inner: int
    outputs: int
    stride: int

    @property
    def changes_shape(self) -> bool:
        return self.stride != 1 or self.inputs != self.outputs


def resnet(b: Builder) -> nn.Module:
    """Sites stem (not in norm_act_conv), stage1.0.norm1, …, stageS.B.shortcut for every projection with a
    norm, and final (only in norm_act_conv).
    """
    placement = b.spec.placement.name
    width = b.spec.model.width or 16
    units, convolutions = _units(b, width)
    scale = initial_scales(b.spec, len(units), convolutions)
    net = _stem(b, width, units)
    for number, unit in enumerate(units):
        net.append(_residual(b, unit, scale, _stream_readers(b, units[number + 1 :]), first=number == 0))
    channels = units[-1].outputs
    if placement == "norm_act_conv":
        net.extend([*b.fixup_bias(), *b.norm_act("final", channels)])
    elif placement == "act_only_preact":
        net.append(b.activation())
    return net.extend([GlobalAveragePool(), b.dropout("head"), *b.fixup_bias(), b.head(channels)])


def _units(b: Builder, width: int) -> tuple[list[Unit], int]:
    """All units in the order of the forward pass, and the convolutions of each: 2, or 3 of a bottleneck."""
    blocks, bottleneck = DEPTHS[b.spec.model.name]
    units, channels = [], width
    for stage, count in enumerate(blocks, 1):
        inner = width * 2 ** (stage - 1)
        for i in range(count):
            outputs = inner * (4 if bottleneck else 1)
            stride = 2 if i == 0 and stage > 1 else 1
            units.append(Unit(f"stage{stage}.{i}", channels, inner, outputs, stride))
            channels = outputs
    return units, 3 if bottleneck else 2


def _stem(b: Builder, width: int, units: list[Unit]) -> nn.Sequential:
    """The first convolution with its norm and activation, and the max-pooling of the ImageNet stem."""
    placement = b.spec.placement.name
    imagenet = b.spec.model.stem == "imagenet"
    kernel, stride = (7, 2) if imagenet else (3, 1)
    # the norm of the first convolution has the name of the unit that it belongs to in the tables
    site = f"{units[0].name}.norm1" if placement == "norm_act_conv" else "stem"
    read_by: str | tuple[str, ...] | None = b.reader(site)
    if placement == "norm_act_conv" and not _stem_activated(b):
        read_by = _stream_readers(b, units)
    conv = b.conv(
        "stem", b.image.channels, width, kernel, stride=stride, padding=kernel // 2, read_by=read_by
    )
    if placement not in PREACTIVATION or _stem_activated(b):
        net = b.unit(site, conv, width)
    elif placement == "act_only_preact":
        net = nn.Sequential(conv, b.norm(site, width))
    else:
        net = nn.Sequential(conv)
    if imagenet:
        net.append(nn.MaxPool2d(3, stride=2, padding=1))
    return net


def _stem_activated(b: Builder) -> bool:
    """Whether the first activation of a pre-activation net stands before the paths split."""
    return b.spec.placement.name in PREACTIVATION and b.spec.model.stem_activation == "before_split"


def _stream_readers(b: Builder, units: list[Unit]) -> tuple[str, ...]:
    """The sites that read a sum of shortcut and branch just before these units; () but for norm_act_conv.

    Identity shortcuts pass the sum on to the next unit. A projection does not: it reads the output of the
    first norm of its unit.
    """
    if b.spec.placement.name != "norm_act_conv":
        return ()
    readers = []
    for unit in units:
        readers.append(f"{unit.name}.norm1")
        if unit.changes_shape and b.spec.model.shortcut == "conv":
            return tuple(readers)
    return (*readers, "final")


def _residual(
    b: Builder, unit: Unit, scale: tuple[float, ...], output_readers: tuple[str, ...], *, first: bool
) -> Residual:
    """A residual unit.

    Args:
        b:              the builder.
        unit:           its name and shape.
        scale:          factors of the initial weights, one per convolution; three make a bottleneck.
        output_readers: the sites that read the unit's output, see `_stream_readers`.
        first:          the unit is the first of the net.
    """
    placement, name = b.spec.placement.name, unit.name
    inner, outputs, stride = unit.inner, unit.outputs, unit.stride
    bottleneck = len(scale) == 3
    # (kernel, stride, output channels) of each convolution; in a bottleneck the 3×3 has the stride, as in
    # torchvision
    shapes = (
        [(1, 1, inner), (3, stride, inner), (1, 1, outputs)]
        if bottleneck
        else [(3, stride, inner), (3, 1, inner)]
    )
    layers = LAYER.findall((BOTTLENECK if bottleneck else BASIC)[placement])
    if first and _stem_activated(b):
        layers = layers[layers.index("conv1") :]
    parts = {"entry": nn.Sequential(), "branch": nn.Sequential(), "tail": nn.Sequential()}
    part, channels, last_norm = "entry", unit.inputs, None
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
            conv = b.conv(
                f"{name}.{layer}", channels, width, kernel, stride=conv_stride, padding=kernel // 2,
                read_by=_reader(unit, layers, position) or output_readers, scale=scale[number],
            )  # fmt: skip
            parts["branch"].append(conv)
            channels = width
    if b.spec.model.zero_last and b.norm_sites is not None:
        _zero(last_norm, name, placement)
    sum_reader = _reader(unit, layers, layers.index("+"))
    shortcut = _shortcut(b, unit, (sum_reader,) if sum_reader else output_readers)
    # if the unit begins with a convolution, its entry is empty or Fixup's bias
    shared = not isinstance(shortcut, nn.Identity) and (
        layers[0] == "conv1" or (placement == "norm_act_conv" and not isinstance(shortcut, Subsample))
    )
    return Residual(parts["entry"], parts["branch"], shortcut, parts["tail"], shared_entry=shared)


def _reader(unit: Unit, layers: list[str], position: int) -> str | None:
    """The site in the unit that reads the output of a layer, with at most the addition in between."""
    following = [layer for layer in layers[position + 1 :] if layer != "+"]
    return f"{unit.name}.{following[0].split()[0]}" if following and following[0].startswith("norm") else None


def _shortcut(b: Builder, unit: Unit, sum_readers: tuple[str, ...]) -> nn.Module:
    """Identity, subsampling or projection. The sites `sum_readers` read its sum with the branch."""
    if not unit.changes_shape:
        return nn.Identity()
    if b.spec.model.shortcut == "pad":
        return Subsample(b.lanes, unit.outputs - unit.inputs, unit.stride)
    site = f"{unit.name}.shortcut"
    normalized = b.spec.placement.name not in ("norm_act_conv", "after_add")
    read_by = site if normalized else sum_readers
    conv = b.conv(site, unit.inputs, unit.outputs, 1, stride=unit.stride, read_by=read_by)
    return nn.Sequential(conv, b.norm(site, unit.outputs)) if normalized else conv


def _zero(norm: nn.Module | None, name: str, placement: str) -> None:
    weight = getattr(norm, "weight", None)
    if weight is None:
        raise InputError(
            f"model.zero_last needs a norm with γ as the last layer before the addition; block {name} has "
            f"none with placement={placement}, this norm and these sites. Use model.zero_last=false"
        )
    nn.init.zeros_(weight)
