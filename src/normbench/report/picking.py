"""`table --select`: in every cell, the value of some keys that is best on validation images.

A cell holds runs with several values of these keys, such as learning rates. The value with the best mean of a
validation metric over seeds is picked, and the cell shows the runs with this value alone. Test metrics decide
nothing. A value that lost more runs than another (diverged, failed, without a number, or a seed that others
have) is not compared. If means are equal, the first value in the order of tables is picked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from normbench.errors import InputError
from normbench.labels import label
from normbench.record import COMPLETE, Record
from normbench.record_checks import is_number
from normbench.report.metrics import direction, measured
from normbench.report.selection import ENVIRONMENT, value
from normbench.report.text import natural
from normbench.visible import visible

Place = tuple[str, str]
#: Keys that say which images are validation images: metrics of different ones cannot be compared.
_SPLIT = ("data.name", "data.fingerprint", "data.train_size", "data.valid")
_NO_CHOICE = ("seed", "status", "data", "data.path", *_SPLIT, *ENVIRONMENT)


@dataclass(frozen=True)
class Pick:
    """What was picked in one cell.

    values:  one per key; empty if no value has a complete run.
    at_edge: the keys whose picked number is the smallest or the largest of several that were tried.
    tried:   how many values, or combinations of values, there are.
    dropped: how many of them were not compared because they lost runs.
    tied:    another value has the same mean.
    """

    values: tuple[Any, ...] = ()
    at_edge: tuple[str, ...] = ()
    tried: int = 0
    dropped: int = 0
    tied: bool = False


@dataclass(frozen=True)
class Picks:
    """What was picked in the cells of a table: the keys, the metric that decided, and a pick per cell."""

    keys: tuple[str, ...] = ()
    metric: str = ""
    cells: Mapping[Place, Pick] = field(default_factory=dict)
    tried: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # the texts of all values, by key

    def remark(self, place: Place) -> str:
        """The pick of a cell in words, such as `lr=0.1 edge`; empty if nothing was picked."""
        pick = self.cells.get(place, Pick())
        ends = [key.rpartition(".")[2] for key in self.keys]
        names = ends if len({*ends}) == len(ends) else self.keys
        texts = [f"{name}={visible(label(each))}" for name, each in zip(names, pick.values, strict=False)]
        marked = (text + " edge" * (key in pick.at_edge) for key, text in zip(self.keys, texts, strict=False))
        return ", ".join(marked)

    def to_json(self, place: Place) -> dict[str, Any]:
        """What `table --format json` says of the pick of a cell."""
        pick = self.cells.get(place, Pick())
        return {
            "picked": dict(zip(self.keys, pick.values, strict=False)) or None,
            "at_edge": list(pick.at_edge),
            "tried": pick.tried,
            "not_compared": pick.dropped,
            "tied": pick.tied,
        }

    def notes(self) -> tuple[str, ...]:
        """The lines under the table: what decided, and what a reader must doubt."""
        if not self.keys:
            return ()
        picks, cells = list(self.cells.values()), len(self.cells)
        grid = "; ".join(f"{key} of {', '.join(texts)}" for key, texts in self.tried.items())
        lines = [f"Picked per cell by the mean {self.metric} over seeds, not by test: {grid}."]
        if edge := sum(bool(pick.at_edge) for pick in picks):
            lines.append(
                f"edge: the smallest or largest value tried, in {edge} of {cells} cells; "
                "values beyond it may be better."
            )
        if single := sum(pick.tried == 1 for pick in picks):
            lines.append(f"Only one value was tried in {single} of {cells} cells.")
        if tied := sum(pick.tied for pick in picks):
            lines.append(f"Equal means in {tied} of {cells} cells: the first value was picked.")
        if dropped := sum(pick.dropped for pick in picks):
            lines.append(
                f"{dropped} of {sum(pick.tried for pick in picks)} values tried were not compared: they lost "
                "more runs (diverged, failed, missing) than others of their cell."
            )
        return tuple(lines)


def check_select(keys: Sequence[str], axes: Sequence[str]) -> None:
    """Raise InputError for keys that cannot be picked: rows, columns, the seed, and what makes the split."""
    for key in keys:
        if key in axes:
            raise InputError(f"--select takes keys that are neither rows nor columns; {key} is one")
        if key in _NO_CHOICE:
            raise InputError(f"--select picks knobs of training, such as optim.lr; got {key}")


def pick(
    records: Sequence[Record], place: Callable[[Record], Place], keys: Sequence[str], metric: str
) -> tuple[list[Record], Picks]:
    """The runs that the table shows, and what was picked; all runs of a cell if nothing can be picked there.

    Args:
        place:  the cell of a record.
        keys:   whose values are picked together.
        metric: of the table; validation images decide by the metric of the same name.

    Raises:
        InputError: runs without that metric, or runs of one cell with different validation images.
    """
    by = validation_metric(metric)
    _check_metrics(records, by)
    cells: dict[Place, list[Record]] = {}
    for record in records:
        cells.setdefault(place(record), []).append(record)
    picks: dict[Place, Pick] = {}
    shown: list[Record] = []
    for at, runs in cells.items():
        _check_split(at, runs)
        picks[at], kept = _pick(runs, keys, by)
        shown += kept
    tried = {
        key: tuple(sorted({visible(label(value(r, key))) for r in records}, key=natural)) for key in keys
    }
    return shown, Picks(tuple(keys), by, picks, tried)


def validation_metric(metric: str) -> str:
    """The validation metric that stands for a metric of a table.

    >>> [validation_metric(m) for m in ("test_loss@batch", "valid_loss", "steps_per_s")]
    ['valid_loss@batch', 'valid_loss', 'valid_error']
    """
    if metric.startswith("valid_"):
        return metric
    return metric.replace("test_", "valid_", 1) if metric.startswith("test_") else "valid_error"


def _check_metrics(records: Sequence[Record], by: str) -> None:
    lacking = [
        record
        for record in records
        if not value(record, "data.valid") or (record.status == COMPLETE and by not in record.metrics)
    ]
    if not lacking:
        if direction(by) == 0:
            raise InputError(
                f"--select does not know whether more or less {by} is better; give another --metric"
            )
        return
    if len(lacking) == len(records):
        how = f"no run has; train with data.valid=0.1{' and its eval.statistics' * ('@' in by)}"
    else:
        how = f"{len(lacking)} of {len(records)} runs lack; leave them out with --where data.valid=0.1"
    raise InputError(f"--select picks by {by}, which {how}")


def _check_split(place: Place, runs: Sequence[Record]) -> None:
    for key in _SPLIT:
        found = {visible(label(value(run, key))) for run in runs}
        if len(found) > 1:
            raise InputError(
                f"--select compares runs with the same validation images; cell {' / '.join(place)} has {key} "
                f"{', '.join(sorted(found, key=natural))}; use --where"
            )


def _pick(runs: Sequence[Record], keys: Sequence[str], by: str) -> tuple[Pick, Sequence[Record]]:
    tried: dict[tuple[str, ...], list[Record]] = {}
    for run in runs:
        tried.setdefault(tuple(label(value(run, key)) for key in keys), []).append(run)
    seeds = {run.spec["seed"] for run in runs}
    lost: dict[tuple[str, ...], int] = {}
    scores: dict[tuple[str, ...], float] = {}
    for texts, own in tried.items():
        known = [(run.spec["seed"], n) for run in own if (n := _number(run, by)) is not None]
        lost[texts] = max(len(own) - len(known), len(seeds - {seed for seed, _ in known}))
        if known:
            scores[texts] = direction(by) * mean(n for _, n in known)
    if not scores:
        return Pick(tried=len(tried)), runs
    least = min(lost[texts] for texts in scores)
    compared = sorted(
        (texts for texts in scores if lost[texts] == least), key=lambda texts: [natural(t) for t in texts]
    )
    best = max(compared, key=lambda texts: scores[texts])
    values = tuple(value(tried[best][0], key) for key in keys)
    edges = tuple(
        key
        for key, picked in zip(keys, values, strict=True)
        if _at_edge(picked, {value(run, key) for run in runs if is_number(value(run, key))})
    )
    tied = sum(scores[texts] == scores[best] for texts in compared) > 1
    return Pick(values, edges, len(tried), len(tried) - len(compared), tied), tried[best]


def _number(run: Record, by: str) -> float | None:
    return measured(run, by) if run.status == COMPLETE else None


def _at_edge(picked: Any, numbers: set[float]) -> bool:
    return is_number(picked) and len(numbers) > 1 and picked in (min(numbers), max(numbers))
