"""Fold norms and weight maps into the layers next to them, for inference."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree

from normbench.errors import InputError
from normbench.norms.surgery.changes import Change
from normbench.norms.surgery.conversion import swap
from normbench.norms.surgery.dataflow import steps_of
from normbench.norms.surgery.hooks import has_call_hooks
from normbench.norms.surgery.neighbours import (
    Neighbour,
    Neighbours,
    adjacent_neighbours,
    traced_neighbours,
)
from normbench.norms.surgery.pass_through import FLATTEN, MAXIMUM, SAME
from normbench.norms.surgery.per_channel import per_channel
from normbench.norms.surgery.plain_weights import plain_weights, refuse_derived_weights
from normbench.norms.surgery.recognise import Found, survey

NOT_FIXED = "in evaluation it is not a fixed scale and shift per channel"


def fold(model: nn.Module, example: Any = None, *, report: list[Change] | None = None) -> nn.Module:
    """Copy a model and make its norms part of the layers next to them.

    A norm can be folded if in evaluation it is a fixed scale and shift per channel, as a batch norm with
    running statistics is. torch.nn.Identity replaces it; an activation inside the norm stays.

    - Backward: it is folded into the convolution or linear layer before it, if that layer feeds nothing else.
    - Forward: otherwise it is folded into the layers that read it, if all of them are convolutions or linear
      layers and read nothing else. A layer that pads with zeros takes a norm only if the shift is 0.
    - Layers between may be dropout, average pooling, upsampling, or maximum pooling if no scale is negative.
      Forward, they may also flatten the channels. An activation between makes folding inexact.
    - Weight maps and torch's parametrizations become plain weights.

    Everything else is left alone, with the reason in the report. Outputs stay equal up to rounding.

    torch.fx finds which layer reads which, with optional arguments of the model at their defaults. If it
    cannot trace the model, the order in nn.Sequential is used, and outputs are compared on `example`.

    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
    >>> report = []
    >>> fold(model, report=report)[1]
    Identity()
    >>> print(*report, sep="\\n")
    1: BatchNorm2d → folded into 0

    Args:
        model:   any module in evaluation mode; it is not changed.
        example: an input, or a tuple of inputs. If given, outputs are always compared on it.
        report:  a list; one `Change` is appended for every norm layer and weight map.

    Raises:
        InputError: the model is in training mode or on the meta device; a layer waits for its first input, is
            pruned or has an old-style weight or spectral norm; the model cannot be traced and no example is
            given; its forward pass reads what folding changes; or the outputs on the example differ.
    """
    if any(module.training for module in model.modules()):
        raise InputError("fold needs a model in evaluation mode; call model.eval() first")
    if any(parameter.is_meta for parameter in model.parameters()):
        raise InputError("fold needs a model with weights; this one is on the meta device")
    for path, module in model.named_modules():
        if any(map(is_lazy, chain(module.parameters(False), module.buffers(False)))):
            raise InputError(
                f"fold needs weights, but layer {path!r} waits for its first input; call the model"
            )
    refuse_derived_weights(model)
    folded = copy.deepcopy(model)
    changes = plain_weights(folded)
    try:
        neighbours, steps = traced_neighbours(folded), steps_of(folded)
    except InputError as error:
        if example is None:
            raise InputError(
                f"{error}. Give fold an example of its input to compare outputs on, or fold the parts of the "
                "model that can be traced"
            ) from None
        neighbours, steps = adjacent_neighbours(folded), None
    changes += _norms(folded, neighbours)
    if steps is not None:
        _check_steps(folded, steps, {change.name for change in changes})
    if example is not None:
        _compare(model, folded, example if isinstance(example, tuple) else (example,))
    if report is not None:
        report.extend(changes)
    return folded


@torch.no_grad()
def _norms(model: nn.Module, neighbours: Callable[[nn.Module], Neighbours]) -> list[Change]:
    """Fold the norms that can be folded; one `Change` for every norm."""
    paths = {module: path for path, module in model.named_modules()}
    changes: list[Change] = []
    swaps: dict[nn.Module, nn.Module] = {}
    for path, layer, found in survey(model):
        taken = found if isinstance(found, str) else _absorbed(found, neighbours(layer), paths)
        if isinstance(taken, str) or isinstance(found, str):
            why = _watched_container(path, model) or str(taken)
            changes.append(Change(path, type(layer).__name__, None, note=why))
        else:
            swaps[layer] = _remains(found, taken)
            names = " and ".join(paths[partner.layer.layer] for partner in taken)
            changes.append(Change(path, type(layer).__name__, f"folded into {names}"))
    swap(model, swaps)
    return changes


def _absorbed(
    found: Found, neighbours: Neighbours, paths: dict[nn.Module, str]
) -> tuple[Neighbour, ...] | str:
    """Fold a norm into the layer before it or the layers after it: these, or the reason why it stays."""
    reasons = []
    sides: list[tuple[tuple[Neighbour, ...], str]]
    sides = [((neighbours.before,) if neighbours.before else (), neighbours.why_before)]
    if found.tail:
        sides.append(((), f"its own {type(next(iter(found.tail.values()))).__name__} follows it"))
    else:
        sides.append((neighbours.after, neighbours.why_after))
    for partners, why in sides:
        feeds = partners == (neighbours.before,)
        why = why if not partners else _absorb(found, partners, paths, feeds=feeds)
        if partners and not why:
            return partners
        if why == NOT_FIXED:
            return why
        reasons.append(why)
    return ", and ".join(reason for reason in reasons if reason) or "no layer reads it"


def _absorb(
    found: Found, partners: tuple[Neighbour, ...], paths: dict[nn.Module, str], *, feeds: bool
) -> str:
    """Fold a norm into all layers on one side: empty if done, else the reason why it is not exact."""
    verb = "feeds" if feeds else "reads"
    todo = []
    for partner in partners:
        seen, name = partner.layer, paths[partner.layer.layer]
        times = _repeats(found, partner, feeds=feeds)
        if times is None:
            return f"{name} {verb} it over other channels"
        if has_call_hooks(found.layer) or has_call_hooks(seen.layer):
            return f"it or {name} has hooks"
        moves = next((m for axes in _axes(partner) if (m := per_channel(found, axes)) is not None), None)
        if moves is None:
            return NOT_FIXED
        scale, shift = (vector.repeat_interleave(times) for vector in moves)
        if not feeds and seen.pads and shift.any():
            return f"{name} reads it and pads with zeros, which must not be shifted"
        if MAXIMUM in partner.path and (scale < 0).any():
            return f"a maximum stands between it and {name}, and some of its scales are negative"
        todo.append((seen.absorb_output if feeds else seen.absorb_input, scale, shift))
    for absorb, scale, shift in todo:
        absorb(scale, shift)
    return ""


def _repeats(found: Found, partner: Neighbour, *, feeds: bool) -> int | None:
    """How often a layer sees each channel of the norm: once, or more if flattened; None if the axes differ.

    See also `OnVectors`.
    """
    seen, path = partner.layer, partner.path
    channels, size = found.channels * found.lanes, seen.outputs if feeds else seen.inputs
    last = path.index(FLATTEN) if FLATTEN in path else None
    on_vectors = seen.axes in (None, 2)
    if last is not None:
        rest = {*path[last + 1 :]} - {SAME}
        fits = not feeds and on_vectors and found.axis == 1 and not rest and size % channels == 0
        return size // channels if fits else None
    fits = not {*path} - {SAME} if on_vectors else found.axis == 1
    return 1 if fits and size == channels else None


def _axes(partner: Neighbour) -> tuple[int, ...]:
    """How many axes the norm's input may have."""
    return (4, 3, 5, 2) if FLATTEN in partner.path else (partner.layer.axes or 2,)


def _watched_container(path: str, model: nn.Module) -> str | None:
    """The reason if a layer stands inside a container with hooks, which must go on seeing what they see."""
    parts = path.split(".")
    for count in range(1, len(parts)):
        name = ".".join(parts[:count])
        if has_call_hooks(model.get_submodule(name)):
            return f"{name}, which holds it, has hooks"
    return None


class OnVectors(nn.Module):
    """Replaces a norm that was folded into a torch.nn.Linear: passes (N, C) and refuses any other shape.

    In other shapes the channels are axis 1 for the norm, but the last axis for the linear layer.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 2:
            raise InputError(
                f"this norm was folded into a linear layer, so its input must be (N, C); got "
                f"{tuple(x.shape)}. Use the model from before fold"
            )
        return x


def _remains(found: Found, partners: tuple[Neighbour, ...]) -> nn.Module:
    """What replaces a folded norm: an identity or a check of the shape, then its activation."""
    direct = [p for p in partners if isinstance(p.layer.layer, nn.Linear) and FLATTEN not in p.path]
    guarded = bool(direct) and found.axis == 1
    place = OnVectors() if guarded else nn.Identity()
    return (nn.Sequential(OrderedDict({"norm": place, **found.tail})) if found.tail else place).eval()


def _check_steps(folded: nn.Module, steps: list[Any], layers: set[str]) -> None:
    """Raise if the folded model takes other steps than before, except inside of the layers that changed."""
    try:
        same = steps_of(folded, layers) == steps
    except InputError:  # such as an attribute that only the norm had
        same = False
    if not same:
        raise InputError(
            f"fold cannot fold a {type(folded).__name__}: its forward pass reads from its layers what "
            "folding changes, such as whether they have a bias. Fold the parts of the model that do not"
        )


@torch.no_grad()
def _compare(model: nn.Module, folded: nn.Module, example: tuple[Any, ...]) -> None:
    """Raise if the folded model and the model give different outputs on an example."""
    wanted, got = (pytree.tree_leaves(m(*copy.deepcopy(example))) for m in (model, folded))
    for a, b in zip(got, wanted, strict=True):
        if not isinstance(b, Tensor) or not b.is_floating_point():
            continue
        defined = ~(a.isnan() & b.isnan())
        off = float((a - b)[defined].double().norm() / b[defined].double().norm().clamp(min=1e-300))
        if not off <= math.sqrt(torch.finfo(b.dtype).eps):
            raise InputError(
                f"the folded {type(model).__name__} must give the model's outputs, but on the example they "
                f"differ by {off:.1e} of the output's size: the model calls layers in another order than "
                "its containers hold them. Fold the parts of the model that torch.fx can trace"
            )
