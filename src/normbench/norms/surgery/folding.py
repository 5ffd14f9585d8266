"""Folding norms and weight maps into the layers beside them, for inference."""

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
from normbench.norms.surgery.per_channel import per_channel
from normbench.norms.surgery.plain_weights import plain_weights
from normbench.norms.surgery.recognise import Found, survey


def fold(model: nn.Module, example: Any = None, *, report: list[Change] | None = None) -> nn.Module:
    """A copy of a model in which norms are part of the layers beside them.

    - A norm that is a fixed scale and shift per channel in evaluation, as any batch norm on running
      statistics, becomes part of the convolution or linear layer that feeds it and nothing else, or else of
      the one that alone reads it, provided that one does not pad with zeros. torch.nn.Identity takes its
      place; an activation inside the layer stays there.
    - Weight maps and torch's parametrizations become plain weights.

    Everything else is left alone, with the reason in the report. Outputs are the same but for rounding.

    Who reads whom is seen by torch.fx, with optional arguments of the model at their defaults. For a model
    that it cannot trace the order in nn.Sequential counts, and the result is compared on an example.

    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
    >>> report = []
    >>> fold(model, report=report)[1]
    Identity()
    >>> print(*report, sep="\\n")
    1: BatchNorm2d → folded into 0

    Args:
        model:   any module in evaluation mode; it stays as it is.
        example: an input, or a tuple of them. Outputs on it are compared, whatever the model.
        report:  a list that gets one `Change` for every norm layer and weight map of the model.

    Raises:
        InputError: the model is in training mode or has no weights yet; it cannot be traced and there is no
            example; or the outputs on the example differ.
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
    """Fold what can be folded; what became of every norm."""
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
    """Make a norm part of the layer before or after it: that layer, or why neither can take it."""
    why = "no convolution or linear layer of its own feeds or reads it"
    for partner in (feeder, None if found.tail else reader):
        seen = None if partner is None else linear(partner)
        if partner is None or seen is None or not _share_channels(found, seen, feeds=partner is feeder):
            continue
        if partner is reader and seen.pads:
            why = f"{paths[partner]} reads it and pads with zeros, which are no zeros before it"
        elif _has_hooks(found.layer) or _has_hooks(partner):
            why = f"hooks look at it or at {paths[partner]}"
        elif (moves := per_channel(found, seen.axes or 2)) is None:
            why = "in evaluation it is no fixed scale and shift per channel"
        else:
            (seen.absorb_output if partner is feeder else seen.absorb_input)(*moves)
            return partner
    return why


def _share_channels(found: Found, seen: Linear, *, feeds: bool) -> bool:
    """Whether what is channels to a norm is channels to the layer beside it, too; see also `OnVectors`."""
    same_axis = found.axis == 1 or seen.axes in (None, 2)
    return same_axis and (seen.outputs if feeds else seen.inputs) == found.channels * found.lanes


class OnVectors(nn.Module):
    """Stands where a norm was folded into a torch.nn.Linear: hands on (N, C) and refuses any other shape.

    Elsewhere the norm's channels are axis 1, the linear layer's the last.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 2:
            raise InputError(
                f"a norm beside a linear layer was folded for inputs (N, C); got {tuple(x.shape)}. Use the "
                "model as it was before fold"
            )
        return x


def _remains(found: Found, partner: nn.Module) -> nn.Module:
    """What stands where a norm was folded away: nothing, its activation, a guard of the shape."""
    guarded = isinstance(partner, nn.Linear) and found.axis == 1
    place = OnVectors() if guarded else nn.Identity()
    return (nn.Sequential(OrderedDict({"norm": place, **found.tail})) if found.tail else place).eval()


def _has_hooks(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks)


@torch.no_grad()
def _compare(model: nn.Module, folded: nn.Module, example: tuple[Any, ...]) -> None:
    """Refuse a folded model whose outputs on an example are others than the model's."""
    wanted, got = (pytree.tree_leaves(m(*copy.deepcopy(example))) for m in (model, folded))
    for a, b in zip(got, wanted, strict=True):
        if not isinstance(b, Tensor) or not b.is_floating_point():
            continue
        off = float((a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-300))
        if not off <= math.sqrt(torch.finfo(b.dtype).eps):
            raise InputError(
                f"the folded {type(model).__name__} must give what the model gives, but on the example they "
                f"differ by {off:.1e} of the output's size: layers are used in another order than that of "
                "their containers. Fold the parts of the model that torch.fx can trace"
            )
