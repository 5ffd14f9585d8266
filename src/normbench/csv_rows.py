"""Lines of CSV files whose texts stay texts when a spreadsheet opens them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: The first characters of a text that a spreadsheet would compute.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_row(values: Iterable[Any]) -> list[Any]:
    """The cells of a line. A text that a spreadsheet would take for a formula gets a ' before it.

    >>> csv_row(["bn", 0.5, "-0.5", "=1+1", "@x", None])
    ['bn', 0.5, '-0.5', "'=1+1", "'@x", None]
    """
    return [f"'{each}" if _is_formula(each) else each for each in values]


def _is_formula(value: Any) -> bool:
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return False
    try:
        float(value)
    except ValueError:
        return True
    return False
