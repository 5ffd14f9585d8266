"""The words of a train command that repeat a recorded run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from normbench import parts
from normbench.config.compose import compose
from normbench.config.grammar import written
from normbench.errors import NormbenchError
from normbench.labels import flatten
from normbench.record import Record

#: Fields that the words leave out: they depend on the machine and do not change the result.
_LEFT_OUT = re.compile(
    r"(tracking|numerics|plugins|neutral)\b|data\.(root|download|fingerprint)$|model\.weights_hash$|engine\.(?!precision$)"
)


def words(spec: Mapping[str, Any]) -> list[str]:
    """The words that give this specification: first group choices, then values, without defaults."""
    default = _composed(())
    groups = [
        group
        for group, part in default.items()
        if isinstance(part, dict) and "name" in part and group in spec  # the executor is none of the run's
    ]
    chosen = [
        f"{group}={spec[group]['name']}"
        for group in groups
        if spec[group]["name"] != default[group]["name"] and not _LEFT_OUT.match(group)
    ]
    if spec["data"]["path"]:
        chosen.append(f"data.path={written(spec['data']['path'])}")
    before = _flat(tuple(chosen))
    values = [
        f"{key}={written(value)}"
        for key, value in flatten(spec).items()
        if value != before.get(key) and not _LEFT_OUT.match(key) and (key, value) != ("epochs", None)
    ]
    return [*chosen, *values]


def _part(group: str, spec: Mapping[str, Any]) -> tuple[str, str]:
    """Group and name of a part, from its key in the provenance of a record."""
    kind, _, name = group.partition(".")
    return kind, name or str(spec[group]["name"])


@cache
def _composed(words: tuple[str, ...]) -> dict[str, Any]:
    """The configuration of some words. PERF: thousands of runs share a few choices."""
    [config] = compose(words)
    return config


@cache
def _flat(words: tuple[str, ...]) -> dict[str, Any]:
    return flatten(_composed(words))


def command(spec: Mapping[str, Any], plugins: Iterable[str] = ()) -> str:
    """The train command, quoted for a shell."""
    named = [part for plugin in plugins for part in ("--plugin", plugin)]
    return shlex.join(["normbench", "train", *named, *words(spec)])


def command_or_reason(record: Record) -> str:
    """The train command that repeats a recorded run, or why this version has none."""
    used = record.provenance.get("plugins", {})
    try:
        plugins = dict.fromkeys(each["plugin"] for each in used.values())
        if any(parts.find(*_part(group, record.spec)) is None for group in used):
            return (
                f"it needs its plugin; add {' '.join(f'--plugin {name}' for name in plugins)} to this command"
            )
        return command(record.spec, plugins)
    except (NormbenchError, AttributeError, KeyError, TypeError) as error:
        return f"not with this version of normbench: {error}"
