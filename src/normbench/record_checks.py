"""What must hold of the parts of a record that was read from a file, whoever has written it."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any

#: Groups of a specification that have a choice with a name.
_CHOICES = ("model", "norm", "weight", "placement", "data", "optim", "schedule")
#: Whole numbers of a specification.
_COUNTS = ("batch", "workers", "seed")
#: The largest float.
_LARGEST = sys.float_info.max


def fault(spec: Mapping[str, Any], timing: Mapping[str, Any]) -> str | None:
    """The first fault of the record of a run that was read; None if it is valid.

    Checks the choices and counts of the specification and the numbers of the timing. `from_json` has checked
    the rest. The values of knobs are checked when a run is resolved, not here.
    """
    if (wrong := _wrong_choice(spec, (group for group in _CHOICES if group in spec))) is not None:
        return wrong
    if (wrong := _wrong_count(spec, (key for key in _COUNTS if key in spec))) is not None:
        return wrong
    if not isinstance(spec.get("norm", {}).get("args", {}), dict):
        return "spec.norm.args must be a mapping"
    if not _all_finite(spec) and (number := _not_finite(spec)) is not None:
        return f"spec.{number} must be a finite number"
    given = {name: math.nan if value is None else value for name, value in timing.items()}
    if (number := first_invalid_number(given)) is not None:
        return f"timing.{number} must be a finite number"
    return None


def lack(spec: Mapping[str, Any]) -> str | None:
    """The first choice or count that a specification lacks; None if it has all that a run has."""
    return _wrong_choice(spec, _CHOICES) or _wrong_count(spec, _COUNTS)


def _wrong_choice(spec: Mapping[str, Any], groups: Iterable[str]) -> str | None:
    for group in groups:
        choice = spec.get(group)
        if not isinstance(choice, dict) or not isinstance(choice.get("name"), str):
            return f"spec.{group} must be a mapping with a name"
    return None


def _wrong_count(spec: Mapping[str, Any], keys: Iterable[str]) -> str | None:
    for key in keys:
        if type(spec.get(key)) is not int or spec[key] < (0 if key == "seed" else 1):
            return f"spec.{key} must be a whole number"
    return None


def first_invalid_number(values: Mapping[str, Any]) -> str | None:
    """The first name whose value is neither a finite number nor None; None if there is no such name."""
    return next((name for name, value in values.items() if value is not None and not is_number(value)), None)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number that fits a float. A boolean is not a number.

    >>> [is_number(value) for value in (1, 0.5, float("nan"), True, "1", 10**400)]
    [True, True, False, False, False, False]
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def is_table(value: Any) -> bool:
    """Whether a value is a finite number, None, or lists of such values."""
    return all(map(is_table, value)) if isinstance(value, list) else value is None or is_number(value)


def _all_finite(tree: Mapping[str, Any]) -> bool:
    """Whether all numbers in plain containers are finite. PERF: a tenth of the time of `_not_finite`."""
    waiting: list[Any] = [tree]
    while waiting:
        part = waiting.pop()
        for value in part.values() if isinstance(part, dict) else part:
            kind = type(value)
            if kind is dict or kind is list:
                waiting.append(value)
            elif (kind is float or kind is int) and not -_LARGEST <= value <= _LARGEST:
                return False
    return True


def _not_finite(tree: Any, path: str = "") -> str | None:
    """The dotted path of the first number in plain containers that is not finite; None if all are finite."""
    if isinstance(tree, int | float):
        return None if isinstance(tree, bool) or is_number(tree) else path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, part in items:
        if (found := _not_finite(part, f"{path}.{key}".lstrip("."))) is not None:
            return found
    return None
