"""Residual nets: ResNet-20 … 110 for small images (he2016, §4.2), ResNet-18, 34 and 50 (he2016, Table 1).

The unit of every placement is written out below in its order; + adds the shortcut (he2016b, Fig. 4).
"""

from __future__ import annotations

import re

from torch import Tensor, nn

from normbench.errors import InputError
from normbench.models.branch import scales
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

#: A word of the above; a norm and the activation after it are one, since some norms are both.
WORD = re.compile(r"norm\d act|\S+")

#: name → (blocks of each stage, bottleneck blocks?)
DEPTHS = {
    **{f"resnet{6 * n + 2}": ((n, n, n), False) for n in (3, 5, 7, 9, 18)},
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
}


class Residual(nn.Module):
    """tail(branch(entry(x)) + shortcut(x)); the entry is what stands before the first convolution.

    Full pre-activation and Fixup feed a projection with the entry's output, as the codes of he2016b and
    zhang2019b do.
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
    """Sites stem, stage1.0.norm1, …, stageS.B.shortcut where a projection is normalized, and final in
    norm_act_conv.
    """
    blocks, bottleneck = DEPTHS[b.spec.model.name]
    width = b.spec.model.width or 16
    scale = scales(b.spec, sum(blocks), 3 if bottleneck else 2)
    net, channels = _stem(b, width), width
    for stage, count in enumerate(blocks, 1):
        inner = width * 2 ** (stage - 1)
        for i in range(count):
            stride = 2 if i == 0 and stage > 1 else 1
            net.append(_block(b, f"stage{stage}.{i}", channels, inner, stride, scale))
            channels = inner * (4 if bottleneck else 1)
    if b.spec.placement.name == "norm_act_conv":
        net.extend([*b.shift(), *b.norm_act("final", channels)])
    elif b.spec.placement.name == "act_only_preact":
        net.append(b.activation())
    return net.extend([GlobalAveragePool(), b.dropout("head"), *b.shift(), b.head(channels)])


def _stem(b: Builder, width: int) -> nn.Sequential:
    """The first convolution; pre-activation nets leave its norm and activation to what follows."""
    placement = b.spec.placement.name
    imagenet = b.spec.model.stem == "imagenet"
    kernel, stride = (7, 2) if imagenet else (3, 1)
    bare = placement == "norm_act_conv"
    before = None if bare or placement == "conv_act_norm" else "stem"
    conv = b.conv("stem", b.image.channels, width, kernel, stride=stride, padding=kernel // 2, before=before)
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
    """A unit with as many convolutions as `scale` has factors for their initial weights: 2, or 3 of a
    bottleneck.
    """
    placement, bottleneck = b.spec.placement.name, len(scale) == 3
    outputs = inner * (4 if bottleneck else 1)
    # (kernel, stride, output channels) of each convolution; the stride sits on the 3×3 of a bottleneck, as in
    # torchvision
    shapes = (
        [(1, 1, inner), (3, stride, inner), (1, 1, outputs)]
        if bottleneck
        else [(3, stride, inner), (3, 1, inner)]
    )
    words = WORD.findall((BOTTLENECK if bottleneck else BASIC)[placement])
    parts = {"entry": nn.Sequential(), "branch": nn.Sequential(), "tail": nn.Sequential()}
    part, channels, last_norm = "entry", inputs, None
    for position, word in enumerate(words):
        if word == "+":
            parts["branch"].extend(b.branch_end())
            part = "tail"
        elif word == "act":
            parts[part].extend([*b.shift(), b.activation()])
        elif word.startswith("norm"):
            norm, *act = word.split()
            site = f"{name}.{norm}"
            layers = b.norm_act(site, channels) if act else (b.norm(site, channels),)
            parts[part].extend([*(b.shift() if act else ()), *layers])
            if part == "branch":
                last_norm = layers[0]
        else:
            parts[part].extend(b.shift())
            part, last_norm = "branch", None
            number = int(word[-1]) - 1
            kernel, step, width = shapes[number]
            reader = _reader(words, position)
            conv = b.conv(
                f"{name}.{word}", channels, width, kernel, stride=step, padding=kernel // 2,
                before=f"{name}.{reader}" if reader else None, scale=scale[number],
            )  # fmt: skip
            parts["branch"].append(conv)
            channels = width
    if b.spec.model.zero_last and b.chosen is not None:
        _zero(last_norm, name, placement)
    shortcut = _shortcut(b, name, inputs, outputs, stride)
    # the entry of a unit that begins with a convolution is empty, or Fixup's bias
    shared = not isinstance(shortcut, nn.Identity) and (
        words[0] == "conv1" or (placement == "norm_act_conv" and not isinstance(shortcut, Subsample))
    )
    return Residual(parts["entry"], parts["branch"], shortcut, parts["tail"], shared_entry=shared)


def _reader(words: list[str], position: int) -> str | None:
    """The norm that reads a convolution with nothing but the addition in between."""
    rest = [word for word in words[position + 1 :] if word != "+"]
    return rest[0].split()[0] if rest and rest[0].startswith("norm") else None


def _shortcut(b: Builder, name: str, inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    if b.spec.model.shortcut == "pad":
        return Subsample(b.lanes, outputs - inputs, stride)
    site = f"{name}.shortcut"
    normalized = b.spec.placement.name not in ("norm_act_conv", "after_add")
    conv = b.conv(site, inputs, outputs, 1, stride=stride, before=site if normalized else None)
    return nn.Sequential(conv, b.norm(site, outputs)) if normalized else conv


def _zero(norm: nn.Module | None, name: str, placement: str) -> None:
    weight = getattr(norm, "weight", None)
    if weight is None:
        raise InputError(
            f"model.zero_last needs a norm with γ as the last word of block {name} before the addition; "
            f"placement={placement} with this norm and these sites has none. Use model.zero_last=false"
        )
    nn.init.zeros_(weight)
