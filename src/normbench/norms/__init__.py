"""Normalization layers as a library: each replaces torch's own, and can hold K stacked runs.

>>> import torch
>>> from normbench import norms
>>> layer = norms.build("gn", channels=64, group_size=16)
>>> layer(torch.randn(2, 64, 8, 8)).shape
torch.Size([2, 64, 8, 8])
>>> norms.catalogue()["gn"].reduces
'C/G, H, W'

Every module in `methods` is imported, so a new method is one file.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from normbench.errors import NormError, unknown
from normbench.norms import methods
from normbench.norms.conditional import AdaIN, ConditionalBatchNorm
from normbench.norms.core import Norm
from normbench.norms.registry import REGISTRY, Entry
from normbench.norms.surgery.changes import Change
from normbench.norms.surgery.conversion import convert
from normbench.norms.surgery.factory import layer
from normbench.norms.surgery.folding import fold
from normbench.norms.surgery.insertion import insert

for _module in iter_modules(methods.__path__):
    import_module(f"{methods.__name__}.{_module.name}")

__all__ = [
    "AdaIN",
    "Change",
    "ConditionalBatchNorm",
    "Entry",
    "Norm",
    "NormError",
    "arguments",
    "build",
    "catalogue",
    "convert",
    "entry",
    "fold",
    "insert",
    "layer",
]


def build(key: str, channels: int, lanes: int = 1, **args: Any) -> Norm:
    """Build a norm layer.

    Args:
        key:      a key of `catalogue()`.
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a drop-in layer.
        args:     the method's own arguments, see its docstring.

    Raises:
        InputError: an unknown key or argument (the nearest names are offered), or an argument out of range.
    """
    layer = entry(key).layer
    for name in args:
        if name not in arguments(layer):
            raise unknown(f"argument of norm {key}", name, arguments(layer))
    return layer(channels, lanes, **args)


def catalogue() -> dict[str, Entry]:
    """Every registered method by key, sorted."""
    return dict(sorted(REGISTRY.items()))


def entry(key: str) -> Entry:
    """The catalogue's entry of one method; an unknown key is an InputError with the nearest ones."""
    if key not in REGISTRY:
        raise unknown("norm", key, REGISTRY)
    return REGISTRY[key]


def arguments(layer: type[Norm]) -> list[str]:
    """Names of the keyword arguments of a layer's constructor, without channels and lanes.

    >>> arguments(entry("rms").layer)
    ['eps', 'affine']
    """
    return list(REGISTRY[layer.key].arguments)
