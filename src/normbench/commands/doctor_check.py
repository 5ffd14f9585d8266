"""A check of `normbench doctor`: what was found, how bad it is, and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import NamedTuple

from normbench.errors import reason

OK, WARN, FAIL = "ok", "warn", "fail"


class Check(NamedTuple):
    """One line of the report.

    Attributes:
        name:  what was looked at.
        level: ok: it works; warn: it works with limits; fail: normbench cannot be used.
        found: what is there.
        fix:   what to do; empty if there is nothing to do.
    """

    name: str
    level: str
    found: str
    fix: str = ""


def check(name: str) -> Callable[[Callable[[], tuple[str, ...]]], Callable[[], Check]]:
    """Make a check of a function that returns level, what was found, and the remedy if there is one.

    If the function itself breaks, that is a warning: the other checks go on.
    """

    def decorate(function: Callable[[], tuple[str, ...]]) -> Callable[[], Check]:
        @wraps(function)
        def checked() -> Check:
            try:
                return Check(name, *function())
            except Exception as error:
                return Check(name, WARN, f"could not be checked: {reason(error)}")

        return checked

    return decorate
