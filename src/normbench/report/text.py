"""Labels as text: safe for one line of a terminal, a page or a file, and sorted as people expect."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any

from normbench.labels import MISSING

#: Unicode categories without a visible character: controls, formats such as bidirectional overrides,
#: surrogates, private use, unassigned, line and paragraph separators.
_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def visible(text: str) -> str:
    r"""Text in one line whose invisible characters are written as escapes.

    >>> visible("a\nb\u202ec"), visible("größe · 2")
    ('a\\nb\\u202ec', 'größe · 2')
    """
    if text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in _INVISIBLE else char
        for char in text
    )


def natural(text: str) -> tuple[Any, ...]:
    """Sort key: `none` first, then numbers by size, then names with the numbers in them by size.

    >>> sorted(["resnet110", "bn", "32", "resnet20", "4", "0.1", "none"], key=natural)
    ['none', '0.1', '4', '32', 'bn', 'resnet20', 'resnet110']
    """
    if text in ("none", MISSING):
        return (0,)
    try:
        if math.isfinite(number := float(text)):
            return (1, number)
    except ValueError:
        pass
    pieces = re.split(r"([0-9]+)", text)  # every second piece is a number
    return (2, [int(piece) if place % 2 else piece for place, piece in enumerate(pieces)])
