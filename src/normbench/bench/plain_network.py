"""A run's network built from torch's own layers, as a user of plain PyTorch would build it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from normbench import models
from normbench.data.shape import Shape
from normbench.models.layers import Conv2d, Dropout, GlobalAveragePool, Linear, Subsample
from normbench.norms import Norm
from normbench.spec import RunSpec

#: Norms that torch has a layer for.
NORMS = ("bn", "gn", "ln_chw", "in", "none")


class PadShortcut(nn.Module):
    """Shortcut: takes every stride-th position and adds channels of zeros."""

    def __init__(self, extra_channels: int, stride: int) -> None:
        super().__init__()
        self.extra_channels, self.stride = extra_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra_channels))


def plain_network(spec: RunSpec, image: Shape) -> nn.Module:
    """The network of a run with its initial weights: images (N, C, H, W) → logits (N, classes).

    Args:
        spec:  a run for which `plain.refusal` is "".
        image: channels, size and classes of its data.
    """
    net = models.build([spec], image).body
    flat = False  # True from the layer on whose output is (N, C)
    for path, layer in list(net.named_modules()):
        flat = flat or isinstance(layer, nn.Flatten | GlobalAveragePool)
        if (made := _torchs(layer, flat)) is not None:
            net.set_submodule(path, made)
    return net


def _torchs(layer: nn.Module, flat: bool) -> nn.Module | None:
    """torch's own layer that replaces one of ours, with the same weights; None if ours may stay."""
    made: nn.Module
    if isinstance(layer, Conv2d):
        outputs, inputs, kernel, _ = layer.weight.shape
        bias = layer.bias is not None
        made = nn.Conv2d(inputs, outputs, kernel, layer.stride, layer.padding, bias=bias)
    elif isinstance(layer, Linear):
        _, outputs, inputs = layer.weight.shape
        made = nn.Linear(inputs, outputs, bias=layer.bias is not None)
    elif isinstance(layer, Norm):
        made = _norm(layer, flat)
    elif isinstance(layer, Subsample):
        return PadShortcut(layer.extra_channels, layer.stride)
    elif isinstance(layer, Dropout):
        return nn.Dropout(layer.rate)
    else:
        return None
    with torch.no_grad():
        for mine, theirs in zip(made.parameters(), layer.parameters(), strict=True):
            mine.copy_(theirs.view_as(mine))
    return made


def _norm(layer: Norm, flat: bool) -> nn.Module:
    """torch's own norm with the settings of one of ours; flat: its input is (N, C)."""
    channels, affine = layer.channels, bool(layer.affine)
    if layer.key == "none":
        return nn.Identity()
    if layer.key == "in":
        return nn.InstanceNorm2d(channels, layer.eps, affine=affine)
    if layer.key in ("gn", "ln_chw"):
        return nn.GroupNorm(getattr(layer, "num_groups", 1), channels, layer.eps, affine)
    batch_norm = nn.BatchNorm1d if flat else nn.BatchNorm2d
    return batch_norm(
        channels, layer.eps, getattr(layer, "kernel_momentum", None), affine, bool(layer.tracked)
    )
