"""Whole numbers and ranges that texts and specifications may hold."""

from __future__ import annotations

#: Largest count of anything in a specification: steps, images, channels. A step takes at least 0.1 ms, so
#: more steps would take longer than a day.
MOST = 10**9
#: Numbers other than 0 lie between these in size: fp32 rounds smaller ones to 0 and larger ones to infinity.
SMALLEST, LARGEST = 1e-37, 1e37


def whole(text: str) -> int | None:
    """The whole number from 0 to MOST that a text writes; None if it writes none.

    >>> whole("0100"), whole("-1"), whole("9" * 5000)
    (100, None, None)
    """
    if not text.isdecimal() or len(text) > 20:
        return None
    number = int(text)
    return number if number <= MOST else None
