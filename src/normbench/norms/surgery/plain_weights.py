"""Replace weight maps and parametrizations by the weights that they give."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from normbench.norms.linear_view import is_stacked
from normbench.norms.surgery.changes import Change


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
