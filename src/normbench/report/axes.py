"""What stands along the rows and columns of a table, and in which order.

A label is text: the value of a key as it is written on the command line, several keys joined by " · ".
If one cell would hold runs that differ in a knob of a choice named by an axis, the label names that knob:
`gn` and `gn (num_groups=2)` are two rows of the key `norm`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from normbench.labels import label, material
from normbench.record import Record
from normbench.report.selection import Condition, value
from normbench.report.text import natural
from normbench.visible import visible

JOINT = " · "
#: The key of the metric that a line shows. It is no field of a run.
METRIC = "metric"
#: A key of an axis and the name of a choice → the knobs that its label must name.
Knobs = Mapping[tuple[str, str], Sequence[str]]


@dataclass(frozen=True)
class Axis:
    """The rows or the columns: their keys, and the labels with one text per key, in the order shown."""

    keys: tuple[str, ...]
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.parts)

    @classmethod
    def of(cls, keys: Sequence[str], given: Sequence[str | Sequence[str]]) -> Axis:
        """An axis whose labels are given: a text, or one text per key."""
        parts = {}
        for each in given:
            texts = (each,) if isinstance(each, str) else tuple(each)
            if len(keys) > 1 and len(texts) == 1:
                texts = tuple(texts[0].split(JOINT))
            parts[JOINT.join(texts)] = texts if keys else ()
        return cls(tuple(keys), parts)


def agrees(keys: Sequence[str], parts: Sequence[str], wanted: Mapping[str, Any]) -> bool:
    """Whether the labels of a cell have the wanted values.

    Args:
        keys:  of the rows, then of the columns.
        parts: one text per key.
    """
    given = dict(zip(keys, parts, strict=True))
    return all(given[key] == label(value) for key, value in wanted.items())


def parts(record: Record, keys: Sequence[str], knobs: Knobs | None = None) -> tuple[str, ...]:
    """The row or column of a record, one text per key."""
    named = knobs or {}
    return tuple([_part(record, key, named) for key in keys])


def _part(record: Record, key: str, knobs: Knobs) -> str:
    name = label(value(record, key))
    if (key, name) not in knobs:
        return _shown(name)
    named = {knob: value(record, knob) for knob in knobs[key, name]}
    texts = [f"{_short(knob)}={label(given)}" for knob, given in named.items() if given is not None]
    return _shown(f"{name} ({', '.join(texts)})" if texts else name)


@lru_cache(maxsize=1024)  # PERF: thousands of runs share few labels
def _shown(text: str) -> str:
    return visible(text).replace(JOINT, "·")  # a joint label can be taken apart again


def _short(knob: str) -> str:
    return knob.partition(".")[2].removeprefix("args.")


def knobs_to_name(
    records: Sequence[Record], rows: Sequence[str], cols: Sequence[str], apart: Sequence[str] = ()
) -> Knobs:
    """The knobs in which runs of one cell differ, of the groups that are keys of an axis, except `apart`."""
    keys = (*rows, *cols)
    groups = [key for key in keys if records and isinstance(records[0].spec.get(key), Mapping)]
    cells: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        cells.setdefault(parts(record, keys), []).append(record)
    found: dict[tuple[str, str], dict[str, None]] = {}
    for cell in cells.values():
        for group in groups if len(cell) > 1 else ():
            name = label(value(cell[0], group))
            parts_of = {repr(part): part for part in (record.spec.get(group) for record in cell)}
            flat = [material({group: part}) for part in parts_of.values()]  # PERF: seeds share them
            differing = {
                knob for run in flat for knob in run if len({label(each.get(knob)) for each in flat}) > 1
            }
            for knob in sorted(differing - {"data.path"} - {*keys} - {*apart}):
                found.setdefault((group, name), {})[knob] = None
    return {place: tuple(named) for place, named in found.items()}


def ordered(
    records: Sequence[Record], keys: Sequence[str], conditions: Sequence[Condition], knobs: Knobs
) -> Axis:
    """The axis of these records.

    A condition that lists values gives their order. Numbers follow by size. Names follow in the order in
    which runs were asked for, if the records say it (`provenance.asked`), else in natural order.
    """
    first: dict[tuple[str, ...], Record] = {}
    asked: dict[tuple[str, str], str] = {}
    for record in records:
        texts = parts(record, keys, knobs)
        first.setdefault(texts, record)
        since = record.provenance.get("asked")
        for key, text in zip(keys, texts, strict=True):
            if isinstance(since, str):
                asked[key, text] = min(since, asked.get((key, text), since))

    def rank(key: str, text: str, record: Record) -> tuple[Any, ...]:
        listed = next((c for c in conditions if c.key == key and c.wanted), None)
        index = listed.place(record) if listed else 0
        place = natural(text)
        if place[0] == 2 and (key, text) in asked:
            return (index, 2, [asked[key, text]], place)
        return (index, *place)

    def place(texts: tuple[str, ...]) -> list[tuple[Any, ...]]:
        return [rank(key, text, first[texts]) for key, text in zip(keys, texts, strict=True)]

    return Axis(tuple(keys), {JOINT.join(texts): texts for texts in sorted(first, key=place)})
