"""The words of a train command that repeat a recorded run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString

from normbench.config.compose import compose
from normbench.labels import flatten

#: Fields that the words leave out: they depend on the machine and do not change the result.
_LEFT_OUT = re.compile(
    r"(tracking|numerics|neutral)\b|data\.(root|download|fingerprint)$|engine\.(?!precision$)"
)

#: Text that Hydra's grammar reads as text without quotes.
_PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf)$)[a-z_/][\w/.:*?+-]*", re.ASCII | re.IGNORECASE)


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
        chosen.append(f"data.path={_written(spec['data']['path'])}")
    [config] = compose(chosen)
    before = flatten(config)
    values = [
        f"{key}={_written(value)}"
        for key, value in flatten(spec).items()
        if value != before.get(key) and not _LEFT_OUT.match(key) and (key, value) != ("epochs", None)
    ]
    return [*chosen, *values]


def command(spec: Mapping[str, Any]) -> str:
    """The train command, quoted for a shell."""
    return shlex.join(["normbench", "train", *words(spec)])


def _written(value: Any) -> str:
    """A value in the grammar of overrides.

    >>> [_written(v) for v in (None, True, 0.1, "keras:0.9", "a b", "1", [1, "x.*"], {"k": 1})]
    ['null', 'true', '0.1', 'keras:0.9', '"a b"', '"1"', '[1,x.*]', '{k:1}']
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else QuotedString(value, Quote.double).with_quotes()
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_written, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_written(part)}" for key, part in value.items()) + "}"
    return repr(value)
