"""Text for one line of a terminal, a page or a file: characters that cannot be seen become escapes."""

from __future__ import annotations

import unicodedata

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
