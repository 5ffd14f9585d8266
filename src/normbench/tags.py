"""Tags of a run: those that its training was given, until somebody changes them afterwards.

<run folder>/tags.json      {"tags": ["mine", "draft"], "removed": ["bad"]}

The file holds all tags of the run, and those that were taken away. It is no part of the record or of the
signature. `normbench sync` brings it to wandb.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from normbench.errors import InputError
from normbench.files import write_atomically

FILE = "tags.json"
#: Characters of a tag. wandb accepts no longer ones.
MOST = 64


class Change(NamedTuple):
    """What was changed after the training.

    Attributes:
        tags:    all tags that the run has now.
        removed: tags that were taken away and not added again.
    """

    tags: tuple[str, ...]
    removed: tuple[str, ...] = ()

    def applied_to(self, others: Sequence[str]) -> tuple[str, ...]:
        """Tags that a tracker has of the run, brought up to date. Those that it got elsewhere stay.

        >>> Change(("mine", "draft"), ("bad",)).applied_to(["bad", "theirs", "mine"])
        ('theirs', 'mine', 'draft')
        """
        return tuple(dict.fromkeys([*(tag for tag in others if tag not in self.removed), *self.tags]))


def of(spec: Mapping[str, Any], changed: Change | None) -> tuple[str, ...]:
    """The tags of a run.

    Args:
        spec:    of the run; it has the tags that its training was given.
        changed: the content of its tags.json; None if there is none.
    """
    if changed is not None:
        return changed.tags
    given = (spec.get("tracking") or {}).get("tags") or ()
    return tuple(tag for tag in given if isinstance(tag, str))


def read(file: Path) -> Change:
    """The content of a tags.json. An earlier version wrote the list of tags alone.

    Raises:
        ValueError: the file is damaged.
        OSError: it cannot be read.
    """
    found = json.loads(file.read_text(encoding="utf-8"))
    found = {"tags": found} if isinstance(found, list) else found
    if not isinstance(found, dict):
        raise ValueError("tags must be a list of texts")
    return Change(_texts(found.get("tags")), _texts(found.get("removed", [])))


def _texts(given: object) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(tag, str) for tag in given):
        raise ValueError("tags must be a list of texts")
    return tuple(given)


def changed(folder: Path) -> Change | None:
    """What was changed in a run's folder; None if nothing was, or if the file is damaged."""
    try:
        return read(folder / FILE)
    except (OSError, ValueError):
        return None


def write(folder: Path, tags: Iterable[str], removed: Iterable[str] = ()) -> None:
    """Replace the tags of a run, and add to those that were taken away; each is kept once.

    Raises:
        OSError: the folder cannot be written.
    """
    before = changed(folder)
    write_atomically(folder / FILE, text(tags, [*(before.removed if before else ()), *removed]))


def text(tags: Iterable[str], removed: Iterable[str] = ()) -> str:
    """The content of the file; each tag once. A tag that the run has was not removed."""
    now = list(dict.fromkeys(tags))
    made = {"tags": now, "removed": [tag for tag in dict.fromkeys(removed) if tag not in now]}
    return json.dumps(made, ensure_ascii=False) + "\n"


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
