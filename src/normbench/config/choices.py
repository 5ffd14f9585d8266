"""The packaged configuration groups: their choices, and the knobs that each choice has."""

from __future__ import annotations

from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

import yaml

from normbench.errors import unknown

#: The groups of which every run has exactly one choice.
GROUPS = (
    "model", "norm", "weight", "placement", "data", "optim", "schedule", "tracking", "engine",
)  # fmt: skip

#: Facts that the packaged YAML of a choice may declare beside its knobs, with their defaults.
#: numerics: version of its numbers, raised by every change; neutral: arguments by path within the group,
#: with the value at which they leave the signature; banks: see `NormSpec.banks`.
FACTS: dict[str, Any] = {"numerics": 1, "neutral": {}, "banks": False}


def choices(group: str) -> list[str]:
    """The packaged names of a configuration group, sorted."""
    return sorted(
        f.name[:-5] for f in (files("normbench.conf") / group).iterdir() if f.name.endswith(".yaml")
    )


@lru_cache(maxsize=256)
def declared(group: str, name: str) -> dict[str, Any]:
    """The packaged YAML of a choice: its knobs with their defaults. A knob that it does not have is null.

    Raises:
        InputError: the choice does not exist. The nearest names are offered.
    """
    file = files("normbench.conf") / group / f"{name}.yaml"
    if not file.is_file():
        raise unknown(group, name, choices(group))
    knobs: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return knobs


@cache
def owners(group: str) -> dict[str, list[str]]:
    """The arguments under `<group>.args` of all packaged choices, each with the choices that have it."""
    found: dict[str, list[str]] = {}
    for name in choices(group):
        for argument in declared(group, name).get("args") or {}:
            found.setdefault(argument, []).append(name)
    return found
