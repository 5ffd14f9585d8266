"""How a value is written in Hydra's grammar of overrides, and what to say about a word that breaks it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString

from normbench.config.choices import GROUPS, choices
from normbench.errors import InputError, unknown
from normbench.visible import visible

#: Text that the grammar reads as text without quotes.
_PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf)$)[a-z_/][\w/.:*?+-]*", re.ASCII | re.IGNORECASE)
#: What the grammar reads as a number, which names no choice.
_NUMBER = re.compile(r"[+-]?[\d._]+(?:e[+-]?\d+)?|[+-]?(?:nan|inf)", re.ASCII | re.IGNORECASE)
#: Two numbers written as a span: 0..4, 0-4, 0:4.
_SPAN = re.compile(r"(\d{1,18})\s*(?:\.{2,3}|-|:|to|…)\s*(\d{1,18})")


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
    if said := several_choices(key, value):
        return f"cannot read '{word}'; {said}"
    quoted = shlex.quote(f"{key}={QuotedString(value, Quote.double).with_quotes()}")
    return f"cannot read '{word}'; quote a value with special characters: {quoted}"


def check_text(text: str) -> None:
    """Refuse text that no file can hold: bytes that are no UTF-8, as in file names of other systems, and NUL.

    Raises:
        InputError: the message shows the text with escapes.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"words and file names must be UTF-8; got {visible(text)}; rename the file, or make a link to it"
        ) from None
    if "\0" in text:
        raise InputError(f"text must hold no NUL; got {visible(text)}")


def check_choice(word: str) -> None:
    """Refuse words that set the choice of a group in a way that gives a mixture of two choices, or none.

    Raises:
        InputError: norm.name=gn, norm=null or ~norm; the message says how the choice is written.
    """
    key, sign, value = word.partition("=")
    group, _, leaf = key.lstrip("+~").partition(".")
    if group not in GROUPS or (key.startswith("~") and leaf):
        return
    name = "none" if "none" in choices(group) else "…"
    if key.startswith("~"):
        raise InputError(f"a run needs one {group}; got {word}; write {group}={name}")
    if not leaf and sign and value.strip().lower() in ("null", "false", "true"):
        raise InputError(f"{group} must be the name of a choice; got {word}; write {group}={name}")
    if not leaf and _NUMBER.fullmatch(value.strip()):
        raise unknown(group, value, choices(group))
    if not leaf and value.strip().startswith("["):
        parts = [part for part in re.split(r"[\[\],\s\"']+", value) if part]
        sweep = f"write a sweep as {group}={','.join(parts)}" if parts else f"write {group}={name}"
        raise InputError(f"a run has one {group}; got {word}; {sweep}")
    if leaf in ("name", "type", "kind", "_target_"):
        hint = "; the names of tracked runs follow from what varies" if group == "tracking" else ""
        written_so = f"{group}={value}" if group != "tracking" else "tracking.tags=[…] to mark runs"
        raise InputError(f"{group}.{leaf} cannot be set by itself; got {word}; write {written_so}{hint}")


def several_choices(group: str, value: str) -> str:
    """How to write a sweep, if a value names several choices of a group with other marks than commas.

    >>> several_choices("norm", "bn|gn"), several_choices("norm", "bn")
    ('write a sweep as norm=bn,gn', '')
    """
    parts = [part for part in re.split(r"[^\w]+", value) if part]
    listed = len(parts) > 1 and group in GROUPS and set(parts) <= set(choices(group))
    return f"write a sweep as {group}={','.join(parts)}" if listed else ""


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
