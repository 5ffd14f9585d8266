"""Fold norms and weight maps into the layers next to them, for inference."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from normbench.errors import InputError
from normbench.norms.linear_view import Linear, linear
from normbench.norms.surgery.changes import Change
from normbench.norms.surgery.conversion import swap
from normbench.norms.surgery.dataflow import Links, adjacent, traced
from normbench.norms.surgery.hooks import has_call_hooks
from normbench.norms.surgery.per_channel import per_channel
from normbench.norms.surgery.plain_weights import plain_weights
from normbench.norms.surgery.recognise import Found, survey


def fold(model: nn.Module, example: Any = None, *, report: list[Change] | None = None) -> nn.Module:
    """Copy a model and make its norms part of the layers next to them.

    - A norm that is a fixed scale and shift per channel in evaluation, as a batch norm with running
      statistics is, is folded into the convolution or linear layer before it. That layer must feed nothing
      else. Otherwise it is folded into the layer that alone reads it, if that layer does not pad with zeros.
      torch.nn.Identity replaces the norm; an activation inside the norm stays.
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
        InputError: the model is in training mode or on the meta device; it cannot be traced and no example is
            given; or the outputs on the example differ.
    """
    if any(module.training for module in model.modules()):
        raise InputError("fold needs a model in evaluation mode; call model.eval() first")
    if any(parameter.is_meta for parameter in model.parameters()):
        raise InputError("fold needs a model with weights; this one is on the meta device")
    folded = copy.deepcopy(model)
    try:
        links = traced(folded)
    except InputError as error:
        if example is None:
            raise InputError(
                f"{error}. Give fold an example of its input to compare outputs on, or fold the parts of the "
                "model that can be traced"
            ) from None
        links = adjacent(folded)
    changes = [*plain_weights(folded), *_norms(folded, links)]
    if example is not None:
        _compare(model, folded, example if isinstance(example, tuple) else (example,))
    if report is not None:
        report.extend(changes)
    return folded


@torch.no_grad()
def _norms(model: nn.Module, links: Links) -> list[Change]:
    """Fold the norms that can be folded; one `Change` for every norm."""
    paths = {module: path for path, module in model.named_modules()}
    before = {reader: layer for layer, reader in links.items()}
    changes: list[Change] = []
    swaps: dict[nn.Module, nn.Module] = {}
    for path, layer, found in survey(model):
        partner = (
            found if isinstance(found, str) else _absorbed(found, before.get(layer), links.get(layer), paths)
        )
        if isinstance(partner, str) or isinstance(found, str):
            changes.append(Change(path, type(layer).__name__, None, note=str(partner)))
        else:
            swaps[layer] = _remains(found, partner)
            changes.append(Change(path, type(layer).__name__, f"folded into {paths[partner]}"))
    swap(model, swaps)
    return changes


def _absorbed(
    found: Found, feeder: nn.Module | None, reader: nn.Module | None, paths: dict[nn.Module, str]
) -> nn.Module | str:
    """Fold a norm into the layer before or after it: that layer, or the reason why neither can take it."""
    why = "no convolution or linear layer feeds it alone or reads it alone"
    for partner in (feeder, None if found.tail else reader):
        seen = None if partner is None else linear(partner)
        if partner is None or seen is None or not _share_channels(found, seen, feeds=partner is feeder):
            continue
        if partner is reader and seen.pads:
            why = f"{paths[partner]} reads it and pads with zeros, which must not be shifted"
        elif has_call_hooks(found.layer) or has_call_hooks(partner):
            why = f"it or {paths[partner]} has hooks"
        elif (moves := per_channel(found, seen.axes or 2)) is None:
            why = "in evaluation it is not a fixed scale and shift per channel"
        else:
            (seen.absorb_output if partner is feeder else seen.absorb_input)(*moves)
            return partner
    return why


def _share_channels(found: Found, seen: Linear, *, feeds: bool) -> bool:
    """Whether the norm and the layer next to it have the same channel axis and count; see `OnVectors`."""
    same_axis = found.axis == 1 or seen.axes in (None, 2)
    return same_axis and (seen.outputs if feeds else seen.inputs) == found.channels * found.lanes


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


def _remains(found: Found, partner: nn.Module) -> nn.Module:
    """What replaces a folded norm: an identity or a check of the shape, then its activation."""
    guarded = isinstance(partner, nn.Linear) and found.axis == 1
    place = OnVectors() if guarded else nn.Identity()
    return (nn.Sequential(OrderedDict({"norm": place, **found.tail})) if found.tail else place).eval()


@torch.no_grad()
def _compare(model: nn.Module, folded: nn.Module, example: tuple[Any, ...]) -> None:
    """Raise if the folded model and the model give different outputs on an example."""
    wanted, got = (pytree.tree_leaves(m(*copy.deepcopy(example))) for m in (model, folded))
    for a, b in zip(got, wanted, strict=True):
        if not isinstance(b, Tensor) or not b.is_floating_point():
            continue
        off = float((a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-300))
        if not off <= math.sqrt(torch.finfo(b.dtype).eps):
            raise InputError(
                f"the folded {type(model).__name__} must give the model's outputs, but on the example they "
                f"differ by {off:.1e} of the output's size: the model calls layers in another order than "
                "its containers hold them. Fold the parts of the model that torch.fx can trace"
            )
