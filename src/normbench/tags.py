"""Tags of a run: those that its training was given, until somebody changes them afterwards.

<run folder>/tags.json      ["mine", "draft"]

The file holds all tags of the run. It is no part of the record, of the signature, or of what a tracker got.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from normbench.errors import InputError
from normbench.files import write_atomically

FILE = "tags.json"
#: Characters of a tag. wandb accepts no longer ones.
MOST = 64


def of(spec: Mapping[str, Any], changed: Sequence[str] | None) -> tuple[str, ...]:
    """The tags of a run.

    Args:
        spec:    of the run; it has the tags that its training was given.
        changed: those of its tags.json; None if there is none.
    """
    if changed is not None:
        return tuple(changed)
    given = (spec.get("tracking") or {}).get("tags") or ()
    return tuple(tag for tag in given if isinstance(tag, str))


def read(file: Path) -> list[str]:
    """The tags in a tags.json.

    Raises:
        ValueError: the file is damaged.
        OSError: it cannot be read.
    """
    found = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(found, list) or not all(isinstance(tag, str) for tag in found):
        raise ValueError("tags must be a list of texts")
    return found


def write(folder: Path, tags: Iterable[str]) -> None:
    """Replace the tags of a run; each is kept once.

    Raises:
        OSError: the folder cannot be written.
    """
    write_atomically(folder / FILE, text(tags))


def text(tags: Iterable[str]) -> str:
    """The content of the file; each tag once."""
    return json.dumps(list(dict.fromkeys(tags)), ensure_ascii=False) + "\n"


def check(tag: str) -> str:
    """A tag that a user gives, without spaces around it.

    >>> check(" paper draft ")
    'paper draft'

    Raises:
        InputError: it is empty or too long, or has a comma, which separates tags in conditions, an equals
            sign, which would make it a word of train, or an invisible character.
    """
    tag = tag.strip()
    if not tag or len(tag) > MOST or not tag.isprintable() or {*tag} & {",", "="}:
        raise InputError(
            f"a tag has 1 to {MOST} visible characters, no comma and no =; got {tag[:80]!r}; use draft"
        )
    return tag
