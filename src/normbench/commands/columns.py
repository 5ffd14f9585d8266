"""Rows of text in columns, the same on a terminal and in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def columns(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Lines of a table whose header is the keys of the rows; numbers to the right, text to the left.

    >>> columns([{"key": "bn", "lanes": 16}, {"key": "ln_chw", "lanes": 4}])
    ['key     lanes', 'bn         16', 'ln_chw      4']
    """
    names = list(rows[0])
    width = {name: max(len(name), *(len(str(row[name])) for row in rows)) for name in names}
    number = {name: all(_is_number(str(row[name])) for row in rows) for name in names}

    def line(cells: Mapping[str, object]) -> str:
        padded = (f"{cells[n]!s:>{width[n]}}" if number[n] else f"{cells[n]!s:<{width[n]}}" for n in names)
        return "  ".join(padded).rstrip()

    return [line({name: name for name in names}), *map(line, rows)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
