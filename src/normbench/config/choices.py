"""The configuration groups: their choices, packaged or of plugins, and the knobs that each choice has."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any

import yaml

from normbench import parts
from normbench.errors import unknown

#: The groups of which every command has exactly one choice.
GROUPS = (
    "model", "norm", "weight", "placement", "data", "optim", "schedule", "tracking", "engine", "executor",
)  # fmt: skip

#: Facts that the packaged YAML of a choice may declare beside its knobs, with their defaults.
#: numerics: version of its numbers, raised by every change; neutral: arguments by path within the group,
#: with the value at which they leave the signature; banks: see `NormSpec.banks`.
FACTS: dict[str, Any] = {"numerics": 1, "neutral": {}, "banks": False}


@lru_cache(maxsize=32)
def packaged(group: str) -> tuple[str, ...]:
    """The packaged names of a configuration group, sorted."""
    return tuple(
        sorted(f.name[:-5] for f in (files("normbench.conf") / group).iterdir() if f.name.endswith(".yaml"))
    )


def choices(group: str) -> list[str]:
    """The names of a configuration group, packaged and of plugins, sorted; no models of libraries."""
    return sorted([*packaged(group), *parts.names(group)])


def declared(group: str, name: str) -> dict[str, Any]:
    """The YAML of a choice: its knobs with their defaults. A knob that it does not have is null.

    Raises:
        InputError: the choice does not exist. The nearest names are offered.
    """
    own = parts.knobs(group, name)
    return _read(group, name) if own is None else dict(own)


@lru_cache(maxsize=256)
def _read(group: str, name: str) -> dict[str, Any]:
    file = files("normbench.conf") / group / f"{name}.yaml"
    if not file.is_file():
        raise unknown(group, name, choices(group))
    knobs: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return knobs


def owners(group: str) -> dict[str, list[str]]:
    """The arguments under `<group>.args` of all choices, each with the choices that have it."""
    found: dict[str, list[str]] = {}
    for name in choices(group):
        for argument in declared(group, name).get("args") or {}:
            found.setdefault(argument, []).append(name)
    return found
