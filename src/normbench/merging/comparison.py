"""Whether two records of one run have the same results."""

from __future__ import annotations

import math
from typing import Any

from normbench.labels import label
from normbench.record import Record

#: Starts of the names of metrics that depend on the steps of the curve, not on the final state alone.
_OF_THE_CURVE = ("train_", "steps_to_")
#: Relative difference of numbers that are the same. Another stack, or another machine, rounds otherwise. An
#: error rate that counts one image more differs by more than that.
ROUNDING = 1e-5


def difference(ours: Record, theirs: Record) -> str | None:
    """The first difference between two results of one run, in words; None if what both have is equal.

    Only what both have measured counts. What one of them lacks is an addition. Numbers may differ by
    rounding. If rounding has grown, because training is chaotic, they are two results. Metrics that sum up a
    curve are compared if both curves have their points at the same steps.

    Args:
        ours:   the record of this store.
        theirs: that of the other store.
    """
    if ours.status != theirs.status:
        return f"status {ours.status} here, {theirs.status} there"
    curves = () if _every(ours) == _every(theirs) else _OF_THE_CURVE
    for name, value in ours.metrics.items():
        known = name in theirs.metrics and not name.startswith(curves)
        if known and not _same(value, theirs.metrics[name]):
            return f"{name} {_shown(value)} here, {_shown(theirs.metrics[name])} there"
    for name, table in ours.tables.items():
        if name in theirs.tables and not _same(table, theirs.tables[name]):
            return f"{name} has other numbers there"
    return None


def _same(ours: Any, theirs: Any) -> bool:
    """Whether two values are equal but for rounding; lists and dicts by their members."""
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=ROUNDING)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_same, ours, theirs))
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(_same(ours[key], theirs[key]) for key in ours)
    return bool(ours == theirs)


def _every(record: Record) -> Any:
    return (record.spec.get("eval") or {}).get("every")


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, float) else label(value)
