"""Short phrases that several parts of normbench say alike."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural unless the number is 1.

    >>> counted(1, "run"), counted(3, "stack"), counted(2, "process")
    ('1 run', '3 stacks', '2 processes')
    """
    if number == 1:
        return f"1 {noun}"
    ending = "es" if noun.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{number:,} {noun}{ending}"
