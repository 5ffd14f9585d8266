"""Which runs enter a table: keys of runs, their values, and the conditions of `--where`.

A key is a spec field by its dotted name (`norm` is short for `norm.name`), `total` for batch × workers,
`status`, `tags`, or one of ENVIRONMENT. A run meets a condition on tags if it has one of those listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from normbench.errors import InputError, unknown
from normbench.labels import field, flatten, label
from normbench.paths import get
from normbench.record import Record
from normbench.report.text import natural
from normbench.visible import visible

#: What of a record's environment can change numbers and must not be mixed unnoticed.
ENVIRONMENT = ("normbench", "torch", "device")


_ABSENT = object()


class Condition(NamedTuple):
    """One `--where` expression: the key, the values as text, and whether they are wanted or refused."""

    key: str
    values: tuple[str, ...]
    wanted: bool

    def admits(self, record: Record) -> bool:
        return (self.place(record) < len(self.values)) == self.wanted

    def place(self, record: Record) -> int:
        """The place of the record's value in the list; its length if the value is not listed."""
        given = value(record, self.key)
        return next((i for i, text in enumerate(self.values) if _same(given, text)), len(self.values))


def parse_condition(text: str) -> Condition:
    """Read `key=value`, `key=a,b` (any of them) or `key!=value`; `null` stands for an absent knob.

    >>> parse_condition("norm!=bn,gn")
    Condition(key='norm', values=('bn', 'gn'), wanted=False)

    Raises:
        InputError: the text has another form.
    """
    key, sign, values = text.partition("=")
    refused = key.endswith("!")
    parts = tuple(part.strip() for part in values.split(","))
    if not sign or not key.rstrip("!").strip() or not all(parts) or values.startswith("="):
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
            present = sorted({text for r in records for text in _texts(r, condition.key)}, key=natural)
            wanted = ("" if condition.wanted else "not ") + ",".join(condition.values)
            raise InputError(f"no run has {condition.key} {wanted}; there are: {', '.join(present)}")
    chosen = [record for record in records if all(condition.admits(record) for condition in conditions)]
    if not chosen:
        raise InputError("no run meets all the conditions at once; drop one of them")
    return chosen


def check_keys(records: Sequence[Record], keys: Iterable[str]) -> None:
    """Raise InputError for a key that no record has, offering the nearest ones."""
    known = {"total", "status", "tags", *ENVIRONMENT}
    absent = [
        key for key in keys if key not in known and not any(_has(record.spec, key) for record in records)
    ]
    if absent:
        for record in records:
            known |= flatten(record.spec).keys()
            known |= {name for name, part in record.spec.items() if isinstance(part, dict) and "name" in part}
        raise unknown("key", absent[0], known)


def _has(spec: Mapping[str, Any], key: str) -> bool:
    """Whether a specification has a key: a group with a choice, or a value."""
    found = get(spec, key, _ABSENT)
    if isinstance(found, dict) and found:
        return "." not in key and "name" in found
    return found is not _ABSENT


def value(record: Record, key: str) -> Any:
    """A field of a record by its key; None if this run has no such knob."""
    if key in ENVIRONMENT:
        return record.environment.get(key)
    if key in ("status", "tags"):
        return getattr(record, key)
    return field(record.spec, key)


def _texts(record: Record, key: str) -> tuple[str, ...]:
    """The values of a key as text: one, or one per tag."""
    found = value(record, key)
    return tuple(map(visible, found)) if isinstance(found, tuple) else (visible(label(found)),)


def _same(given: Any, text: str) -> bool:
    if given is None:
        return text == "null"
    if isinstance(given, tuple):
        return text in given or (text == "null" and not given)
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        try:
            return float(text) == float(given)
        except ValueError:
            return False
    return label(given) == text
