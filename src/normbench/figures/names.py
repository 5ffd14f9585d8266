"""Names in figures: one line without invisible characters, and short enough to leave room for the axes."""

from __future__ import annotations

from normbench.visible import visible

#: Characters of a name in a legend or beside an axis, and of one at a tick.
LINE, TICK = 48, 28


def short_name(name: str, most: int = LINE) -> str:
    """A name as figures write it. Of a long one, the start and the end are shown.

    >>> short_name("a name that is too long", 11)
    'a nam… long'
    """
    text = visible(name)
    if len(text) <= most:
        return text
    half = (most - 1) // 2
    return f"{text[: most - 1 - half]}…{text[-half:]}"


def tick(name: str) -> str:
    """A name at a tick of an axis."""
    return short_name(name, TICK)
