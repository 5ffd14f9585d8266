"""Which runs enter a table, and what its rows and columns are called.

Rows and columns are spec fields by their dotted names (`norm` is short for `norm.name`), `total` for
batch × workers, or `status`. Labels are text: the value as it is written on the command line, several keys
joined by " · ".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from normbench.errors import InputError, unknown
from normbench.labels import MISSING, flatten, label
from normbench.record import Record

__all__ = [
    "JOINT", "MISSING", "Condition", "agrees", "check_keys", "check_metric", "flatten", "label", "labels",
    "natural", "order", "parse_condition", "select", "value",
]  # fmt: skip

JOINT = " · "
_STANDARD_METRICS = ("train_loss", "train_error", "test_loss", "test_error", "train_s", "steps_per_s")


class Condition(NamedTuple):
    """One `--where` expression: the key, the values as text, and whether they are wanted or refused."""

    key: str
    values: tuple[str, ...]
    wanted: bool

    def admits(self, record: Record) -> bool:
        given = value(record, self.key)
        return any(_same(given, text) for text in self.values) == self.wanted


def parse_condition(text: str) -> Condition:
    """Read `key=value`, `key=a,b` (any of them) or `key!=value`; `null` stands for an absent knob.

    >>> parse_condition("norm!=bn,gn")
    Condition(key='norm', values=('bn', 'gn'), wanted=False)
    """
    key, sign, values = text.partition("=")
    refused = key.endswith("!")
    parts = tuple(part.strip() for part in values.split(","))
    if not sign or not key.rstrip("!").strip() or not all(parts):
        raise InputError(f"where must be key=value, key=a,b or key!=value; got '{text}'")
    return Condition(key.rstrip("!").strip(), parts, not refused)


def select(records: Sequence[Record], conditions: Sequence[Condition]) -> list[Record]:
    """The records that meet every condition.

    Raises:
        InputError: a key that no record has, or a condition that no record meets.
    """
    check_keys(records, [condition.key for condition in conditions])
    for condition in conditions:
        if not any(condition.admits(record) for record in records):
            present = sorted({label(value(record, condition.key)) for record in records}, key=natural)
            wanted = ("" if condition.wanted else "not ") + ",".join(condition.values)
            raise InputError(f"no run has {condition.key} {wanted}; there are: {', '.join(present)}")
    chosen = [record for record in records if all(condition.admits(record) for condition in conditions)]
    if not chosen:
        raise InputError("no run meets all the conditions at once; drop one of them")
    return chosen


def check_keys(records: Sequence[Record], keys: Iterable[str]) -> None:
    """Raise InputError for a key that no record has, offering the nearest ones."""
    known = {"total", "status"}
    for record in records:
        known |= flatten(record.spec).keys()
        known |= {group for group, part in record.spec.items() if isinstance(part, dict) and "name" in part}
    for key in keys:
        if key not in known:
            raise unknown("key", key, known)


def check_metric(records: Sequence[Record], metric: str) -> None:
    """Raise InputError for a metric that neither a record has nor every run reports."""
    known = {name for record in records for name in record.metrics}
    if metric not in known.union(_STANDARD_METRICS):
        raise unknown("metric", metric, known.union(_STANDARD_METRICS))


def value(record: Record, key: str) -> Any:
    """A field of a record as rows and columns name it; None where this run has no such knob."""
    if key == "total":
        return record.spec["batch"] * record.spec["workers"]
    return record.value(key)


def labels(record: Record, keys: Sequence[str]) -> str:
    """The row or column of a record."""
    return JOINT.join(label(value(record, key)) for key in keys)


def agrees(keys: Sequence[str], place: tuple[str, str], wanted: Mapping[str, Any]) -> bool:
    """Whether the labels of a cell have the wanted values; `keys` are those of rows, then of columns."""
    given = dict(zip(keys, JOINT.join(place).split(JOINT), strict=True))
    return all(given[key] == label(value) for key, value in wanted.items())


def natural(text: str) -> tuple[Any, ...]:
    """Sort key: `none` first, then numbers by size, then names with the numbers in them by size.

    >>> sorted(["resnet110", "bn", "32", "resnet20", "4", "0.1", "none"], key=natural)
    ['none', '0.1', '4', '32', 'bn', 'resnet20', 'resnet110']
    """
    if text in ("none", MISSING):
        return (0,)
    try:
        return (1, float(text))
    except ValueError:
        pieces = re.split(r"([0-9]+)", text)  # a number at every second place
        return (2, [int(piece) if place % 2 else piece for place, piece in enumerate(pieces)])


def order(records: Sequence[Record], keys: Sequence[str], conditions: Sequence[Condition]) -> list[str]:
    """The labels along an axis: in the order that a condition lists the values in, else in natural order."""
    listed = {condition.key: condition.values for condition in conditions if condition.wanted}

    def rank(key: str, text: str) -> tuple[Any, ...]:
        first = listed.get(key, ())
        return (first.index(text),) if text in first else (len(first), natural(text))

    def place(combination: tuple[str, ...]) -> list[tuple[Any, ...]]:
        return [rank(key, text) for key, text in zip(keys, combination, strict=True)]

    combinations = {tuple(label(value(record, key)) for key in keys) for record in records}
    return [JOINT.join(combination) for combination in sorted(combinations, key=place)]


def _same(given: Any, text: str) -> bool:
    if given is None:
        return text == "null"
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        try:
            return float(text) == float(given)
        except ValueError:
            return False
    return label(given) == text
