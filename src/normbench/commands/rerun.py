"""The words of a train command that repeat a recorded run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from normbench.config.compose import compose
from normbench.config.grammar import written
from normbench.labels import flatten

#: Fields that the words leave out: they depend on the machine and do not change the result.
_LEFT_OUT = re.compile(
    r"(tracking|numerics|neutral)\b|data\.(root|download|fingerprint)$|engine\.(?!precision$)"
)


def words(spec: Mapping[str, Any]) -> list[str]:
    """The words that give this specification: first group choices, then values, without defaults."""
    [default] = compose([])
    groups = [group for group, part in default.items() if isinstance(part, dict) and "name" in part]
    chosen = [
        f"{group}={spec[group]['name']}"
        for group in groups
        if spec[group]["name"] != default[group]["name"] and not _LEFT_OUT.match(group)
    ]
    if spec["data"]["path"]:
        chosen.append(f"data.path={written(spec['data']['path'])}")
    [config] = compose(chosen)
    before = flatten(config)
    values = [
        f"{key}={written(value)}"
        for key, value in flatten(spec).items()
        if value != before.get(key) and not _LEFT_OUT.match(key) and (key, value) != ("epochs", None)
    ]
    return [*chosen, *values]


def command(spec: Mapping[str, Any]) -> str:
    """The train command, quoted for a shell."""
    return shlex.join(["normbench", "train", *words(spec)])
