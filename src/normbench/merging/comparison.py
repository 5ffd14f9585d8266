"""Whether two records of one run have the same results."""

from __future__ import annotations

from typing import Any

from normbench.labels import label
from normbench.record import Record

#: Starts of the names of metrics that depend on the steps of the curve, not on the final state alone.
_OF_THE_CURVE = ("train_", "steps_to_")


def difference(ours: Record, theirs: Record) -> str | None:
    """The first difference between two results of one run, in words; None if what both have is equal.

    Only what both have measured counts. What one of them lacks is an addition. Numbers are compared exactly:
    trainings on two kinds of machine differ in their last digits, and then they are two results. Metrics
    that sum up a curve are compared if both curves have their points at the same steps.

    Args:
        ours:   the record of this store.
        theirs: that of the other store.
    """
    if ours.status != theirs.status:
        return f"status {ours.status} here, {theirs.status} there"
    curves = () if _every(ours) == _every(theirs) else _OF_THE_CURVE
    for name, value in ours.metrics.items():
        if name in theirs.metrics and theirs.metrics[name] != value and not name.startswith(curves):
            return f"{name} {_shown(value)} here, {_shown(theirs.metrics[name])} there"
    for name, table in ours.tables.items():
        if name in theirs.tables and theirs.tables[name] != table:
            return f"{name} has other numbers there"
    return None


def _every(record: Record) -> Any:
    return (record.spec.get("eval") or {}).get("every")


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, float) else label(value)
