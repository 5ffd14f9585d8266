"""How a value is written in Hydra's grammar of overrides, and what to say about a word that breaks it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString

#: Text that the grammar reads as text without quotes.
_PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf)$)[a-z_/][\w/.:*?+-]*", re.ASCII | re.IGNORECASE)
#: Two numbers written as a span: 0..4, 0-4, 0:4.
_SPAN = re.compile(r"(\d+)\s*(?:\.{2,3}|-|:|to|…)\s*(\d+)")


def written(value: Any) -> str:
    """A value in the grammar of overrides.

    >>> [written(v) for v in (None, True, 0.1, "keras:0.9", "a b", "1", [1, "x.*"], {"k": 1})]
    ['null', 'true', '0.1', 'keras:0.9', '"a b"', '"1"', '[1,x.*]', '{k:1}']
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else QuotedString(value, Quote.double).with_quotes()
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(written, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{written(part)}" for key, part in value.items()) + "}"
    return repr(value)


def unreadable(word: str) -> str:
    """Why a word cannot be read, and how it is written.

    >>> unreadable("norm=bn,")
    "cannot read 'norm=bn,'; write a sweep without spaces and without a comma at the end: norm=bn,…"
    >>> print(unreadable("tracking.project=a=b"))
    cannot read 'tracking.project=a=b'; quote a value with special characters: 'tracking.project="a=b"'
    """
    key, sign, value = word.partition("=")
    if word.endswith(","):
        return (
            f"cannot read '{word}'; write a sweep without spaces and without a comma at the end: "
            f"{word.rstrip(',')},…"
        )
    if not sign or not key.strip():
        return (
            f"cannot read '{word}': a word must be key=value; write a sweep as norm=bn,gn and quote a value "
            "with spaces: 'key=\"a b\"'. No spaces around = and commas"
        )
    if value.startswith(","):
        return f"cannot read '{word}'; write a sweep as {key}={value.strip(',')},…"
    quoted = shlex.quote(f"{key}={QuotedString(value, Quote.double).with_quotes()}")
    return f"cannot read '{word}'; quote a value with special characters: {quoted}"


def as_sweep(key: str, value: object) -> str:
    """How to write a sweep, if a value for one run looks like several: a list, or a span of numbers.

    >>> as_sweep("seed", "0..4"), as_sweep("batch", [2, 4]), as_sweep("batch", "two")
    ("write a sweep as 'seed=range(0,5)'", 'write a sweep as batch=2,4', '')
    """
    if isinstance(value, list | tuple) and value:
        return f"write a sweep as {key}={','.join(map(written, value))}"
    span = _SPAN.fullmatch(value.strip()) if isinstance(value, str) else None
    if span and int(span[1]) < int(span[2]):
        return f"write a sweep as '{key}=range({int(span[1])},{int(span[2]) + 1})'"
    return ""
