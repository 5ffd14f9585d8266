"""What to say about arguments that a verb does not have: key=value takes no dashes, flags have near names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches


def explain_arguments(message: str, flags: Iterable[str], *, takes_words: bool) -> str:
    """The message of an argument parser, with how the unknown arguments are written.

    >>> explain_arguments("unrecognized arguments: --batch=2", [], takes_words=True)
    'unrecognized arguments: --batch=2; write batch=2'
    >>> explain_arguments("unrecognized arguments: --row norm", ["--rows", "--cols"], takes_words=False)
    'unrecognized arguments: --row norm; nearest: --rows'

    Args:
        message:     what argparse says.
        flags:       the flags that exist.
        takes_words: whether the verb takes key=value.
    """
    _, found, given = message.partition("unrecognized arguments: ")
    if not found:
        return message
    hints = []
    for argument in given.split():
        name, sign, value = argument.partition("=")
        near = get_close_matches(name, list(flags), n=1, cutoff=0.7)
        if near and not sign:
            hints.append(f"nearest: {near[0]}")
        elif takes_words and re.fullmatch(r"--?[a-z_][\w.]*", name):
            hints.append(f"write {name.lstrip('-')}={value if sign else '…'}")
    return "; ".join([message, *hints])
