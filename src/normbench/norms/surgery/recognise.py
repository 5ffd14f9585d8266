"""Recognise norm layers of torch, torchvision, timm and this package as methods of this package."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils.parametrize import ParametrizationList

from normbench.norms.core import Affine, Norm
from normbench.norms.linear_view import is_stacked
from normbench.norms.methods.gn import GroupNorm
from normbench.norms.registry import REGISTRY
from normbench.norms.running import RunningNorm
from normbench.norms.surgery.known_layers import (
    NORM_NAME,
    Known,
    departure,
    known_class,
    replaced_on_instance,
)
from normbench.norms.surgery.last_axis import LastAxis

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
#: Norms of torch. A subclass of one is a norm, whatever it computes.
BASES = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
#: Children that timm's norms call after normalizing, in this order.
TAIL = ("drop", "act")
#: Modules with weights that are no norms: what holds one is no norm either.
_OTHERS = (_ConvNd, nn.Linear, nn.Embedding, nn.MultiheadAttention)


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
        note:     what no method can take over, for the report.
    """

    layer: nn.Module
    key: str
    channels: int
    lanes: int = 1
    axis: int = 1
    settings: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Tensor] = field(default_factory=dict)
    tail: dict[str, nn.Module] = field(default_factory=dict)
    note: str = ""


def survey(model: nn.Module) -> Iterator[tuple[str, nn.Module, Found | str]]:
    """Every norm layer of a model, once: path, layer, and what it is or why it is not recognised."""
    seen: set[nn.Module] = set()

    def visit(path: str, module: nn.Module) -> Iterator[tuple[str, nn.Module, Found | str]]:
        if module in seen or isinstance(module, ParametrizationList):
            return
        seen.add(module)
        known = recognize(module)
        if known is not None:
            yield path, module, known
            return
        within = _why_out_of_reach(module)
        for name, child in module.named_children():
            if is_stacked(module) and name == "weight_norm":
                continue
            for place, layer, found in visit(f"{path}.{name}" if path else name, child):
                yield place, layer, within or found

    return visit("", model)


def recognize(layer: nn.Module) -> Found | str | None:
    """A norm as `Found`, the reason why a norm is not recognised, or None for any other layer."""
    if type(layer) is LastAxis:
        inner = recognize(layer.norm)
        reason = replaced_on_instance(layer)
        return reason or (replace(inner, layer=layer, axis=-1) if isinstance(inner, Found) else inner)
    if isinstance(layer, Norm):
        return _ours(layer)
    if isinstance(layer, BASES) and isinstance(layer, LazyModuleMixin):
        return "it waits for its first input to know its channels"
    if (match := known_class(type(layer))) is not None:
        return departure(layer, match[0]) or _foreign(layer, match[1])
    if isinstance(layer, BASES) or _looks_like_norm(layer):
        return f"{type(layer).__name__} is not a known class, so what it computes is not known"
    return None


def _looks_like_norm(layer: nn.Module) -> bool:
    """Whether a layer of an unknown class is a norm, judged by its name and its parts."""
    if isinstance(layer, torch.jit.ScriptModule):
        name = str(getattr(layer, "original_name", ""))
    else:
        name = type(layer).__name__
    buffers = {*layer._buffers.keys()}  # a scripted layer has them as a list
    named = NORM_NAME.search(name) or {"running_mean", "running_var"} <= buffers
    if not named or isinstance(layer, (nn.Sequential, nn.ModuleList, nn.ModuleDict, ParametrizationList)):
        return False
    parts = [part for part in layer.modules() if part is not layer]
    return not any(isinstance(part, (*_OTHERS, *BASES, Norm)) or _looks_like_norm(part) for part in parts)


def _why_out_of_reach(parent: nn.Module) -> str | None:
    """Why a norm inside this module cannot be replaced; None if it can."""
    kind = type(parent)
    if "_orig_mod" in parent._modules and recognize(parent._modules["_orig_mod"]) is not None:  # type: ignore[arg-type]
        return "torch.compile holds it: replace it before compiling"
    if kind.__module__.startswith(("torch.ao.nn.intrinsic.qat", "torch.ao.nn.quantized")):
        return f"it belongs to a {kind.__name__}, which reads its statistics"
    return None


def _foreign(layer: nn.Module, known: Known) -> Found | str:
    tail = {name: layer._modules[name] for name in TAIL if known.tail and layer._modules.get(name)}
    if (reason := _odd_parts(layer, known, tail)) is not None:
        return reason
    settings: dict[str, Any] = {"after": 0.0} if known.frozen else {"affine": _affine(layer)}
    note = ""
    if known.key in ("ln_c", "rms"):
        (*several, channels) = layer.normalized_shape  # type: ignore[misc]
        if several:
            return "it normalizes over several axes, and its γ and β are one per element"
    elif known.key == "gn":
        channels = layer.num_channels
        settings["num_groups"] = layer.num_groups
    elif known.frozen:
        channels = layer.running_var.numel()  # type: ignore[operator]
    else:
        channels = layer.num_features
    if known.key == "bn" and not known.frozen:
        settings |= _tracking(layer)
    elif known.key == "in" and layer.track_running_stats:
        note = "its running statistics, which evaluation used, are gone"
    if layer.eps is None:  # torch's RMS norm: the machine epsilon of its input
        settings["eps"] = torch.finfo(next((p.dtype for p in layer.parameters()), torch.float32)).eps
    else:
        settings["eps"] = layer.eps
    state = _state(layer, statistics=known.key == "bn")
    if "running_var" in state:  # without a count: how many batches made the statistics is unknown, but not 0
        state.setdefault("num_batches_tracked", torch.ones((), dtype=torch.long))
    kept = {name: child for name, child in tail.items() if type(child) is not nn.Identity}
    return Found(layer, known.key, channels, 1, known.axis, settings, state, kept, note)  # type: ignore[arg-type]


def _odd_parts(layer: nn.Module, known: Known, tail: dict[str, Any]) -> str | None:
    """Why parts of a layer are not those of its class; None if they are."""
    affine = ("weight", "bias")
    parameters, buffers = ((), (*affine, *STATISTICS)) if known.frozen else (affine, STATISTICS)
    expected = {"_parameters": parameters, "_buffers": buffers, "_modules": tuple(tail)}
    held = {group: {n for n, v in getattr(layer, group).items() if v is not None} for group in expected}
    if parts := [name for group, names in expected.items() for name in sorted(held[group] - {*names})]:
        return f"it has parts of its own: {', '.join(parts)}"
    for group, what in (("_parameters", "parameter"), ("_buffers", "buffer")):
        for name in expected[group]:
            if name not in held[group] and getattr(layer, name, None) is not None:
                return f"its {name} is not a {what}"
    needed: tuple[str, ...] = affine if known.key in ("bn", "in", "gn", "ln_c") else ("weight",)
    needed += ("running_mean", "running_var") * (known.key == "bn")
    if missing := [name for name in needed if not hasattr(layer, name)]:
        return f"its {missing[0]} was deleted"
    if known.key == "bn" and (layer.running_mean is None) != (layer.running_var is None):
        return "it has only one of running_mean and running_var"
    return None


def _tracking(layer: nn.Module) -> dict[str, Any]:
    """Settings of running statistics under which a method computes what a batch norm of torch does now.

    Evaluation reads the buffers if there are any, whatever track_running_stats says. Training moves them only
    if track_running_stats is true; a cumulative average also needs num_batches_tracked.
    """
    counted = getattr(layer, "num_batches_tracked", None) is not None
    if layer.running_mean is None:
        return {"track": False}
    if not layer.track_running_stats or (layer.momentum is None and not counted):
        return {"track": True, "momentum": 0.0}
    return {"track": True, "momentum": "cumulative" if layer.momentum is None else layer.momentum}


def _ours(layer: Norm) -> Found | str:
    entry = REGISTRY.get(layer.key)
    if entry is None or entry.layer is not type(layer):
        return "it is no method of the catalogue"
    if (reason := replaced_on_instance(layer)) is not None:
        return reason
    if loose := [name for name, value in vars(layer).items() if isinstance(value, Tensor)]:
        return f"its {loose[0]} is not a parameter"
    settings: dict[str, Any] = {}
    if "affine" in entry.arguments:
        settings["affine"] = layer.affine
    if layer.lane_eps:
        settings["eps"] = layer.lane_eps
    if isinstance(layer, RunningNorm) and "track" in entry.arguments:
        settings["track"] = layer.tracked
    if isinstance(layer, RunningNorm) and layer.tracked:
        settings["momentum"] = tuple(momentum.canonical for momentum in layer.momenta)
    if isinstance(layer, RunningNorm):
        settings |= {name: getattr(layer, name) for name in ("center", "scale") if name in entry.arguments}
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
