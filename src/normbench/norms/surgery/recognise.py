"""Recognise norm layers of torch, torchvision, timm and this package as methods of this package."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parameter import is_lazy

from normbench.norms.core import REGISTRY, Affine, Norm
from normbench.norms.methods.gn import GroupNorm
from normbench.norms.running import RunningNorm
from normbench.norms.surgery.last_axis import LastAxis

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
#: Class from elsewhere → the method that computes the same.
METHODS: tuple[tuple[type[nn.Module], str], ...] = (
    (_BatchNorm, "bn"),
    (_InstanceNorm, "in"),
    (nn.GroupNorm, "gn"),
    (nn.LayerNorm, "ln_c"),
    (nn.RMSNorm, "rms"),
)
#: Children that timm's norms call after normalizing, in this order.
TAIL = ("drop", "act")


@dataclass(frozen=True)
class Found:
    """A norm layer and the method of this package that computes the same.

    Attributes:
        layer:    the layer.
        key:      the method.
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a layer from elsewhere.
        axis:     channel axis of its input: 1, or -1 for the last.
        settings: arguments with which the method computes the same.
        state:    γ, β and running statistics, by their names in this package.
        tail:     modules that the layer applies to its normalized output, by name.
    """

    layer: nn.Module
    key: str
    channels: int
    lanes: int = 1
    axis: int = 1
    settings: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Tensor] = field(default_factory=dict)
    tail: dict[str, nn.Module] = field(default_factory=dict)


def survey(model: nn.Module) -> Iterator[tuple[str, nn.Module, Found | str]]:
    """Every norm layer of a model, once: path, layer, and what it is or why it is not recognised."""
    seen: set[nn.Module] = set()

    def visit(path: str, module: nn.Module) -> Iterator[tuple[str, nn.Module, Found | str]]:
        if module in seen:
            return
        seen.add(module)
        known = recognize(module)
        if known is not None:
            yield path, module, known
            return
        for name, child in module.named_children():
            yield from visit(f"{path}.{name}" if path else name, child)

    return visit("", model)


def recognize(layer: nn.Module) -> Found | str | None:
    """A norm as `Found`, the reason why a norm is not recognised, or None for any other layer."""
    if isinstance(layer, LastAxis):
        inner = recognize(layer.norm)
        return replace(inner, layer=layer, axis=-1) if isinstance(inner, Found) else inner
    if isinstance(layer, Norm):
        return _ours(layer)
    key = next((key for kind, key in METHODS if isinstance(layer, kind)), None)
    if key is None:
        return _frozen(layer)
    if any(is_lazy(p) for p in layer.parameters()):
        return "it waits for its first input to know its channels"
    return _foreign(layer, key)


def _foreign(layer: nn.Module, key: str) -> Found | str:
    tail = {name: child for name, child in layer.named_children() if name in TAIL}
    parts = [name for name, _ in layer.named_children() if name not in TAIL]
    parts += [name for name, _ in layer.named_parameters(recurse=False) if name not in ("weight", "bias")]
    if parts:
        return f"it has parts of its own: {', '.join(parts)}"
    if key in ("ln_c", "rms"):
        (*several, channels) = layer.normalized_shape  # type: ignore[misc]
        if several:
            return "it normalizes over several axes, and its γ and β are one per element"
        axis = _axis(layer, channels)
        if axis is None:
            return "which axis its channels are cannot be told"
    else:
        channels, axis = layer.num_channels if key == "gn" else layer.num_features, 1
    settings: dict[str, Any] = {"eps": layer.eps, "affine": _affine(layer)}
    if key == "bn":
        settings["track"] = layer.track_running_stats
        settings["momentum"] = "cumulative" if layer.momentum is None else layer.momentum
    if key == "gn":
        settings["num_groups"] = layer.num_groups
    if layer.eps is None:  # torch's RMS norm: the machine epsilon of its input
        settings["eps"] = torch.finfo(next((p.dtype for p in layer.parameters()), torch.float32)).eps
    return Found(
        layer, key, channels, 1, axis, settings, _state(layer, statistics=key == "bn"),
        {name: tail[name] for name in TAIL if name in tail and type(tail[name]) is not nn.Identity},
    )  # fmt: skip


def _frozen(layer: nn.Module) -> Found | None:
    """Batch norm whose parameters are buffers, as in torchvision, detectron2 and timm."""
    buffers = dict(layer.named_buffers(recurse=False))
    if not {"weight", "bias", "running_mean", "running_var"} <= buffers.keys() or layer._parameters:
        return None
    tail = {n: c for n, c in layer.named_children() if n in TAIL and type(c) is not nn.Identity}
    settings = {"after": 0.0} | ({"eps": layer.eps} if hasattr(layer, "eps") else {})
    state = _state(layer)
    # the number of batches behind its statistics is unknown, but not 0
    state.setdefault("num_batches_tracked", torch.ones((), dtype=torch.long))
    return Found(layer, "bn", buffers["weight"].numel(), 1, 1, settings, state, tail)


def _ours(layer: Norm) -> Found | str:
    entry = REGISTRY.get(layer.key)
    if entry is None or entry.layer is not type(layer):
        return "it is no method of the catalogue"
    settings: dict[str, Any] = {}
    if "affine" in entry.arguments:
        settings["affine"] = layer.affine
    if layer.lane_eps:
        settings["eps"] = layer.lane_eps
    if isinstance(layer, RunningNorm) and "track" in entry.arguments:
        settings["track"] = layer.tracked
    if isinstance(layer, RunningNorm) and layer.tracked:
        settings["momentum"] = tuple(momentum.canonical for momentum in layer.momenta)
    if isinstance(layer, GroupNorm):
        settings["num_groups"] = layer.num_groups
    for name, value in settings.items():
        if isinstance(value, tuple) and len(set(value)) == 1:
            settings[name] = value[0]
    return Found(layer, layer.key, layer.channels, layer.lanes, 1, settings, layer.state_dict(keep_vars=True))


def _state(layer: nn.Module, *, statistics: bool = True) -> dict[str, Tensor]:
    names = ("weight", "bias", *(STATISTICS if statistics else ()))
    tensors = {name: getattr(layer, name, None) for name in names}
    return {name: tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)}


def _affine(layer: nn.Module) -> Affine:
    weight, bias = (getattr(layer, name, None) is not None for name in ("weight", "bias"))
    return weight if weight == bias else ("weight" if weight else "bias")


def _axis(layer: nn.Module, channels: int) -> int | None:
    """Channel axis of a layer norm: the last for torch's own; for a subclass the one that it accepts."""
    if type(layer).forward in (nn.LayerNorm.forward, nn.RMSNorm.forward):
        return -1
    probe = copy.deepcopy(layer).to("meta")
    other = channels + 1
    shapes = {1: ((1, channels, other), (1, channels, 1, other)), -1: ((1, other, channels),)}
    fitting = [axis for axis, tried in shapes.items() if any(_accepts(probe, shape) for shape in tried)]
    return fitting[0] if len(fitting) == 1 else None


def _accepts(layer: nn.Module, shape: tuple[int, ...]) -> bool:
    dtype = next((p.dtype for p in layer.parameters()), torch.float32)
    try:
        y = layer(torch.empty(shape, device="meta", dtype=dtype))
    except Exception:  # a layer from elsewhere may raise anything on a wrong shape
        return False
    return isinstance(y, Tensor) and tuple(y.shape) == shape
