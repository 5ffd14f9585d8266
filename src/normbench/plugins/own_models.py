"""Registers models of the user's: ordinary modules, and functions of a builder that make K lanes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from normbench import parts
from normbench.errors import InputError, unknown
from normbench.models.network import ARCHITECTURES, POOLING, RESIDUAL
from normbench.plugins.loading import plugin_of

#: Knobs without which a builder cannot make layers, at their defaults.
_USUAL = {"activation": "relu", "dropout": 0.0, "bias": "auto"}


def register_ordinary(name: str, made: Any, size: int | None, numerics: int) -> None:
    """Register a function that builds an ordinary module.

    Raises:
        InputError: the name is taken, or it is no function of one argument.
    """
    knobs = {"name": name, **dict.fromkeys(parts.MODEL_KNOBS), "numerics": numerics}
    _add(name, made, knobs, {"size": size}, "shape", alone=True)


def register_stacked(
    name: str,
    made: Any,
    size: int | None,
    placements: tuple[str, ...],
    numerics: int,
    given: Mapping[str, Any],
) -> None:
    """Register a function that makes the layers of K lanes with a builder.

    Raises:
        InputError: the name is taken, it is no function of one argument, or a knob or a placement is unknown.
    """
    for knob in given:
        if knob not in parts.MODEL_KNOBS:
            raise unknown(f"knob of model {name}", knob, parts.MODEL_KNOBS)
    known = (*POOLING, *RESIDUAL)
    for placement in placements:
        if placement not in known:
            raise unknown(f"placement of model {name}", placement, known)
    knobs = {"name": name, **dict.fromkeys(parts.MODEL_KNOBS), **_USUAL, **given, "numerics": numerics}
    _add(name, made, knobs, {"size": size, "placements": placements}, "builder", alone=False)


def _add(
    name: str, made: Any, knobs: Mapping[str, Any], facts: Mapping[str, Any], takes: str, *, alone: bool
) -> None:
    """Register a function that is called with one argument, which messages call `takes`."""
    if not callable(made):
        raise InputError(f"model {name} must be a function that builds the network; got {made!r}")
    try:
        inspect.signature(made).bind(None)
    except TypeError as error:
        raise InputError(
            f"model {name} must be a function of one argument, def …({takes}): {error}"
        ) from None
    except ValueError:  # a function without a signature, such as one in C
        pass
    parts.add(parts.Part("model", name, made, plugin_of(made), knobs, facts, alone), ARCHITECTURES)
