"""Normalization layers as a library: drop-in for torch's own, and K runs wide where asked.

>>> from normbench import norms
>>> layer = norms.build("gn", channels=64, group_size=16)

Every module of this package that registers a layer is found by itself: a new method is one file.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from normbench.errors import unknown
from normbench.norms.core import REGISTRY, Entry, Norm

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["Entry", "Norm", "build", "catalogue", "entry"]


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
    known = arguments(layer)
    for name in args:
        if name not in known:
            raise unknown(f"argument of norm {key}", name, known)
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
    """Names of the keyword arguments of a layer's constructor, without channels and lanes."""
    return [p for p in inspect.signature(layer).parameters if p not in ("channels", "lanes")]
