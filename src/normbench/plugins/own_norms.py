"""Registers a norm of the user's: its knobs follow from its constructor."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from normbench import norms, parts
from normbench.errors import InputError
from normbench.norms.core import Norm
from normbench.norms.registry import REGISTRY, Entry
from normbench.norms.running import RunningNorm
from normbench.norms.side_by_side import side_by_side
from normbench.plugins.loading import plugin_of

#: Arguments of a constructor that the run gives.
_OF_THE_RUN = ("channels", "lanes", "batch", "total", "seeds", "activated")
#: Arguments with a knob of their own beside `args`.
_KNOBS = ("momentum", "eps", "affine")
_PLAIN = (bool, int, float, str, type(None))


def register(key: str, made: Any, facts: Mapping[str, Any], declared: Mapping[str, Any]) -> None:
    """Register a layer under its key.

    Args:
        facts:    of the catalogue, see `Entry`.
        declared: banks, neutral and numerics.

    Raises:
        InputError: the key is taken, or the constructor does not fit.
    """
    if not (isinstance(made, type) and issubclass(made, nn.Module)):
        raise InputError(f"norm {key} must be a class that derives from torch.nn.Module; got {made!r}")
    stacks = "lanes" in inspect.signature(made).parameters
    if stacks and not issubclass(made, Norm):
        raise InputError(
            f"norm {key}: a class with the argument lanes must derive from normbench.norms.Norm; derive "
            f"{made.__name__} from it, or leave out lanes"
        )
    if declared["banks"] and not (stacks and issubclass(made, RunningNorm)):
        raise InputError(
            f"norm {key}: banks=True needs a class that takes lanes and derives from "
            "normbench.norms.running.RunningNorm"
        )
    knobs = {"name": key, **declared, **knobs_of(key, made)}
    _check_neutral(key, knobs)
    layer: type[Norm] = made if issubclass(made, Norm) and stacks else side_by_side(made)
    packaged = [known for known in norms.catalogue() if parts.find("norm", known) is None]
    parts.add(parts.Part("norm", key, made, plugin_of(made), knobs, {"stacks": stacks}), packaged)
    layer.key, layer.same_in_evaluation = key, not facts["eval_differs"]
    REGISTRY[key] = Entry(key=key, layer=layer, **facts)


def knobs_of(key: str, made: type) -> dict[str, Any]:
    """The knobs that the constructor gives: momentum, eps, affine and args. Null: it does not have this one.

    Raises:
        InputError: it does not take the channels alone, or an argument has no plain default.
    """
    channels, *others = inspect.signature(made).parameters.values()
    if channels.name != "channels":
        raise InputError(
            f"norm {key}: the first argument of {made.__name__} must be called channels; got {channels.name}"
        )
    knobs: dict[str, Any] = {**dict.fromkeys(_KNOBS), "args": {}}
    for argument in others:
        name, default = argument.name, argument.default
        if name in _OF_THE_RUN or argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD):
            continue
        if default is inspect.Parameter.empty:
            raise InputError(f"norm {key}: argument {name} of {made.__name__} must have a default")
        if name in _KNOBS:
            knobs[name] = default
        elif isinstance(default, _PLAIN):
            knobs["args"][name] = default
        else:
            raise InputError(
                f"norm {key}: the default of argument {name} must be a number, a text, a boolean or None; "
                f"got {default!r}"
            )
    return knobs


def _check_neutral(key: str, knobs: Mapping[str, Any]) -> None:
    """Refuse neutral values of arguments that do not exist."""
    for path in knobs["neutral"]:
        group, _, name = path.partition(".")
        if group != "args" or name not in knobs["args"]:
            known = ", ".join(f"args.{name}" for name in knobs["args"]) or "none"
            raise InputError(f"norm {key}: neutral names {path}, which is no argument of it; it has {known}")
