"""Weight maps: functions that a layer applies to its weight, instead of or besides a norm of activations.

>>> import torch
>>> from normbench import weight_norms
>>> weight = torch.randn(8, 3, 3, 3)
>>> weight_norms.build("wn", weight)(weight).shape
torch.Size([8, 3, 3, 3])

Every module in `methods` is imported, so a new method is one file.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from pkgutil import iter_modules

from torch import Tensor

from normbench.errors import InputError, unknown
from normbench.weight_norms import methods
from normbench.weight_norms.core import REGISTRY, WeightNorm

for _module in iter_modules(methods.__path__):
    import_module(f"{methods.__name__}.{_module.name}")

__all__ = ["WeightNorm", "build", "catalogue", "entry"]


def build(key: str, weight: Tensor, lanes: int = 1, eps: float | None = None) -> WeightNorm:
    """Build the weight map of one layer of K stacked runs.

    Args:
        key:    a key of `catalogue()`.
        weight: the layer's initial weight, (K·Cout, Cin, *kernel) or (K, Cout, Cin). Not kept.
        lanes:  K, stacked runs.
        eps:    ε > 0, for a method that has one. None: its default.

    Raises:
        InputError: an unknown key (the nearest are offered), an ε out of range or for a method without, or a
            weight that the method cannot take.
    """
    kind = entry(key)
    if eps is None:
        return kind(weight, lanes)
    if "eps" not in inspect.signature(kind).parameters:
        raise InputError(f"{key}: the map has no eps; got {eps}. Leave it out")
    return kind(weight, lanes, eps=eps)  # type: ignore[call-arg]  # checked above


def catalogue() -> dict[str, type[WeightNorm]]:
    """Every registered weight map by key, sorted."""
    return dict(sorted(REGISTRY.items()))


def entry(key: str) -> type[WeightNorm]:
    """The weight map registered under a key; an unknown one is an InputError with the nearest."""
    if key not in REGISTRY:
        raise unknown("weight", key, REGISTRY)
    return REGISTRY[key]
