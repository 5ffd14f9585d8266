"""Layers through which a scale and shift per channel can be moved, from one side to the other."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from normbench.norms.surgery.hooks import has_call_hooks
from normbench.norms.surgery.known_layers import replaced_on_instance

#: How a layer passes y = scale · x + shift on. SAME: it computes nothing. AVERAGE: weights that sum to 1.
#: MAXIMUM: exact if scale ≥ 0. FLATTEN: the channels are repeated, in order.
SAME, AVERAGE, MAXIMUM, FLATTEN = "same", "average", "maximum", "flatten"

_SAME = (
    nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)  # fmt: skip
_AVERAGE = (
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.Upsample, nn.UpsamplingNearest2d,
    nn.UpsamplingBilinear2d, nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d, nn.ReplicationPad1d,
    nn.ReplicationPad2d, nn.ReplicationPad3d, nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d,
)  # fmt: skip
_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_MAXIMUM = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
)  # fmt: skip


def how_layer_passes(layer: nn.Module) -> str | None:
    """SAME, AVERAGE, MAXIMUM or FLATTEN for a layer in evaluation; None if it does anything else."""
    kind = type(layer)
    if has_call_hooks(layer) or replaced_on_instance(layer) is not None:
        return None
    if kind in _SAME:
        return SAME
    if kind in _AVERAGE:
        return AVERAGE
    if kind in _POOLS and getattr(layer, "divisor_override", None) is None:
        padding = layer.padding if isinstance(layer.padding, tuple) else (layer.padding,)
        return AVERAGE if not any(padding) or not layer.count_include_pad else None
    if kind in _MAXIMUM:
        return None if layer.return_indices else MAXIMUM
    if kind is nn.Flatten and layer.start_dim == 1 and layer.end_dim == -1:
        return FLATTEN
    return None


def how_call_passes(node: fx.Node) -> str | None:
    """The same for a function that a traced forward pass calls."""
    if node.op != "call_function" or not node.args or not isinstance(node.args[0], fx.Node):
        return None
    rest: tuple[Any, ...] = node.args[1:]
    if node.target is torch.flatten and rest == (1,) and not node.kwargs:
        return FLATTEN
    if node.target in (F.dropout, F.dropout2d) and node.kwargs.get("training") is False:
        return SAME
    if node.target in (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d):
        return AVERAGE
    return None
