"""What a metric is: where its value lies in a record, whether more or less is better, how it is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from normbench.conditions import quantity
from normbench.errors import unknown
from normbench.record import Record
from normbench.record_checks import is_number

TIMING = ("train_s", "steps_per_s", "stack_s", "step_s")
#: Costs of a run that lie in the provenance of its record: the number of its parameters, and the memory that
#: a step of a lone run needs, estimated from shapes.
COSTS = ("parameters", "memory_bytes")
#: Metrics of all runs that differ in the seed alone, see `commands.ensembles`.
ENSEMBLE = ("ensemble_error", "ensemble_nll", "ensemble_ece")
_STANDARD = ("train_loss", "train_error", "test_loss", "test_error", *TIMING, *COSTS)


def check_metric(records: Sequence[Record], metric: str) -> None:
    """Raise InputError for a metric that neither a record has nor every run reports."""
    known = {name for record in records for name in (*record.metrics, *record.timing)}
    if metric not in known.union(_STANDARD):
        raise unknown("metric", metric, known.union(_STANDARD))


def measured(record: Record, metric: str) -> float | None:
    """The value of a metric, a time such as `steps_per_s` or a cost; None if the record has no finite
    number.
    """
    sources = (record.metrics, record.timing, record.provenance if metric in COSTS else {})
    value = next((source[metric] for source in sources if metric in source), None)
    return value if is_number(value) else None


def direction(metric: str) -> int:
    """1 if more is better, −1 if less is better, 0 if that is not known.

    >>> [direction(m) for m in ("test_error@batch", "steps_per_s", "steps_to_0.1", "mce", "weight_norm")]
    [-1, 1, -1, -1, 0]
    """
    name = quantity(metric)
    if name.endswith(("_per_s", "accuracy")):
        return 1
    errors = ("_error", "_loss", "_nll", "_ece", "_s", "_bytes")
    if name.endswith(errors) or name.startswith("steps_to_") or name == "mce":
        return -1
    return 0


class NumberFormat(NamedTuple):
    """How the numbers of one metric are written: factor, format of a float, and the unit in the caption."""

    factor: float
    spec: str
    unit: str

    def __call__(self, value: float) -> str:
        text = f"{value * self.factor:{self.spec}}"
        return text.removeprefix("-") if float(text) == 0 else text

    def as_printed(self, value: float) -> str:
        """A published number, without decimals that its source does not have."""
        whole, _, decimals = self(value).partition(".")
        if "e" in decimals:
            return self(value)
        return f"{whole}.{decimals.rstrip('0') or '0'}" if decimals else whole


def number_format(metric: str, values: Iterable[float], means: Iterable[float]) -> NumberFormat:
    """Errors in percent, counts as integers, the rest with about four digits; one format for a whole table.

    Args:
        values: all values of the table.
        means:  its means; those of counts get one decimal unless all are whole.
    """
    if quantity(metric).endswith("_error") or quantity(metric) == "mce":
        return NumberFormat(100.0, ".2f", "%")
    values = list(values)
    largest = max(map(abs, values), default=0.0)
    whole = largest > 0 and all(float(value).is_integer() for value in values)
    if largest >= (1e15 if whole else 1e7):
        return NumberFormat(1.0, ".4g", "")
    limits = ((1e-4, 8), (1e-2, 6), (1, 4), (10, 3), (100, 2), (1000, 1))
    decimals = next((digits for limit, digits in limits if largest and largest < limit), 0 if largest else 4)
    if whole:
        decimals = min(decimals, 0 if all(float(mean).is_integer() for mean in means) else 1)
    return NumberFormat(1.0, f".{decimals}f", "")
