"""Which diagnostics of an ended run are missing, and whether only another training can tell them."""

from __future__ import annotations

from normbench.diagnostics import Diagnostic, parse_all
from normbench.record import COMPLETE, Metrics, Record
from normbench.spec import RunSpec
from normbench.store import Store


def missing_diagnostics(spec: RunSpec, record: Record) -> list[Diagnostic]:
    """The diagnostics that are asked for and of which the record lacks metrics."""
    return [each for each in parse_all(spec.diagnostics) if not record.metrics.keys() >= set(each.metrics)]


def diagnostics_to_train(spec: RunSpec, record: Record, store: Store) -> list[str]:
    """The diagnostics that are asked for and that only another training can tell: what reads the training
    itself, series along it, and all others if the final state was not kept.
    """
    missing = missing_diagnostics(spec, record)
    lacks_state = record.status == COMPLETE and not store.weights_file(spec.signature).is_file()
    return [
        str(each)
        for each in parse_all(spec.diagnostics)
        if (each in missing and each.entry.follows_from == "training")
        or (each in missing and each.entry.follows_from == "state" and lacks_state)
        or _lacks_series(each, record, store)
    ]


def _lacks_series(asked: Diagnostic, record: Record, store: Store) -> bool:
    """Whether the run lacks readings along the training at the cadence that is asked for."""
    if asked.every is None or asked.entry.follows_from == "curve" or record.status != COMPLETE:
        return False
    steps = int(record.provenance.get("steps") or 0)
    due = set(range(asked.every, steps, asked.every))
    return bool(due) and not due <= _steps_with(asked, store.history(record.signature))


def _steps_with(asked: Diagnostic, curve: tuple[Metrics, ...]) -> set[float | None]:
    return {point.get("step") for point in curve if point.keys() >= set(asked.metrics)}
