"""Replace weight maps and parametrizations by the weights that they give."""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from normbench.errors import InputError
from normbench.norms.linear_view import is_stacked
from normbench.norms.surgery.changes import Change

#: Tensors that a layer keeps → what derives a weight from them, and the call that makes the weight plain.
DERIVED = (
    ("_mask", "is pruned", "torch.nn.utils.prune.remove(layer, {name!r})"),
    ("_g", "has an old-style weight norm", "torch.nn.utils.remove_weight_norm(layer, {name!r})"),
    ("_u", "has an old-style spectral norm", "torch.nn.utils.remove_spectral_norm(layer, {name!r})"),
)


def refuse_derived_weights(model: nn.Module) -> None:
    """Raise if a hook computes a weight from other tensors: such a layer can be neither copied nor folded.

    Raises:
        InputError: a layer is pruned or has an old-style weight or spectral norm. The message names it and
            the call that makes its weight plain.
    """
    found = []
    for path, module in model.named_modules():
        held = {
            n for n, _ in chain(module.named_parameters(recurse=False), module.named_buffers(recurse=False))
        }
        for name, value in vars(module).items():
            if not isinstance(value, Tensor):
                continue
            kept = next((entry for entry in DERIVED if f"{name}{entry[0]}" in held), None)
            if kept is not None:
                found.append((path, kept[1], kept[2].format(name=name)))
            elif value.grad_fn is not None:
                found.append(
                    (path, f"computes its {name} in each call", f"layer.{name} = layer.{name}.detach()")
                )
    if found:
        path, what, remedy = found[0]
        more = f" ({len(found) - 1} more like it)" if len(found) > 1 else ""
        raise InputError(f"fold needs plain weights, but layer {path!r} {what}{more}; call {remedy} first")


@torch.no_grad()
def plain_weights(model: nn.Module) -> list[Change]:
    """Replace every weight map and parametrization of a model by a plain weight; one `Change` for each."""
    changes = []
    for path, module in list(model.named_modules()):
        if parametrize.is_parametrized(module):
            changes += [Change(path, what, f"a plain {name}") for name, what in _unparametrize(module)]
        if is_stacked(module):
            stored, weight_map = module.weight, module.weight_norm
            assert isinstance(stored, Tensor) and isinstance(weight_map, nn.Module)
            used = weight_map(stored)
            if used is not stored:
                module.weight = nn.Parameter(torch.empty_like(stored).copy_(used), stored.requires_grad)
                changes.append(Change(path, type(weight_map).__name__, "a plain weight"))
            module.weight_norm = nn.Identity()
    return changes


def _unparametrize(module: nn.Module) -> list[tuple[str, str]]:
    """Replace torch's parametrizations by their present values; names of the tensors and of their maps.

    torch's remove_parametrizations would also change the class that a module shares with its copies.
    """
    held = module.parametrizations
    assert isinstance(held, nn.ModuleDict)
    values = {
        name: nn.Parameter(
            getattr(module, name).detach().clone(), any(p.requires_grad for p in maps.parameters())
        )
        for name, maps in held.items()
    }
    module.__class__ = parametrize.type_before_parametrizations(module)
    del module.parametrizations
    for name, value in values.items():
        setattr(module, name, value)
    return [(name, ", ".join(type(m).__name__ for m in maps.children())) for name, maps in held.items()]
