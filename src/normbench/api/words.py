"""The words of `train`, given as one text or as a list."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from normbench.errors import InputError
from normbench.plugins import loading

Words = str | Sequence[str]


def of_train(words: Words) -> list[str]:
    """The words as a shell would pass them, after loading the plugins that they and the environment name.

    Raises:
        InputError: as `split`, or a plugin cannot be loaded.
    """
    rest, named = loading.split_flags(split(words))
    loading.load_all(named)
    return rest


def split(words: Words) -> list[str]:
    """The words as a shell would pass them.

    >>> split("norm=bn,gn 'model.hidden=[8, 8]'"), split(["norm=bn", "seed=range(3)"])
    (['norm=bn,gn', 'model.hidden=[8, 8]'], ['norm=bn', 'seed=range(3)'])

    Raises:
        InputError: a quote is not closed, or a word is no text.
    """
    if not isinstance(words, str):
        if wrong := [word for word in words if not isinstance(word, str)]:
            raise InputError(f"words must be texts such as 'norm=bn,gn'; got {wrong[0]!r}")
        return list(words)
    try:
        return shlex.split(words)
    except ValueError as error:
        raise InputError(f"words cannot be read: {error}; got {words!r}") from None


def conditions(where: Words) -> tuple[str, ...]:
    """Conditions as `--where` takes them: one text is one condition."""
    return (where,) if isinstance(where, str) and where else tuple(where)
