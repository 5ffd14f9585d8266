"""Records in, a table as a pure value out: which runs lie in which cell, and what they say together.

Diverged and failed runs are counted and never enter a mean. A cell is marked as the best of its column only
where a paired test says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from normbench.errors import InputError
from normbench.record import COMPLETE, DIVERGED, FAILED, Record
from normbench.report.cells import Cell, Table
from normbench.report.footnotes import notes, warnings
from normbench.report.selection import check_keys, check_metric, labels, order, parse_condition, select
from normbench.report.stats import LEVEL, MIN_SEEDS, compare, holm, summarize

_LARGER_IS_BETTER = ("steps_per_s",)


def build_table(
    records: Sequence[Record],
    rows: str | Sequence[str],
    cols: str | Sequence[str],
    metric: str,
    where: str | Sequence[str] = (),
    *,
    published: Mapping[tuple[str, str], float] | None = None,
    axes: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Table:
    """Arrange records by the spec keys `rows` and `cols` and summarize `metric` in every cell.

    Args:
        rows, cols: dotted keys, a sequence or one text with commas; without cols the column is the metric.
        where: conditions `key=value`, `key=a,b`, `key!=value`, all of which a run must meet.
        published: numbers to show beside ours, by row and column label.
        axes: the row and column labels to show, in this order, whether or not they have runs; by default
            those of the records, in the order of a condition that lists them, else in natural order.

    Raises:
        InputError: an unknown key or metric, or no run to show; nearest names are offered.
    """
    row_keys, col_keys = _keys(rows), _keys(cols)
    records = list({record.signature: record for record in records}.values())  # a run counts once
    if not row_keys:
        raise InputError("a table needs at least one key for its rows; give for example rows=norm")
    conditions = [parse_condition(text) for text in ([where] if isinstance(where, str) else where)]
    if axes is None:
        if not records:
            raise InputError("there are no records; train some, or set NORMBENCH_RESULTS to their folder")
        check_metric(records, metric)
        check_keys(records, [*row_keys, *col_keys])
        records = select(records, conditions)
        col_labels = order(records, col_keys, conditions) if col_keys else [metric]
        axes = (order(records, row_keys, conditions), col_labels)
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in sorted(records, key=lambda record: (record.spec["seed"], record.signature)):
        place = (labels(record, row_keys), labels(record, col_keys) if col_keys else metric)
        groups.setdefault(place, []).append(record)
    cells = {}
    for place in ((row, col) for row in axes[0] for col in axes[1]):
        beside = (published or {}).get(place)
        if place in groups or beside is not None:
            cells[place] = _cell(*place, groups.get(place, []), metric, beside)
    cells, tested = _mark_best(cells, axes, larger=metric.partition("@")[0] in _LARGER_IS_BETTER)
    table = Table(metric, row_keys, col_keys, tuple(axes[0]), tuple(axes[1]), cells)
    shown = [groups[place] for place in cells if place in groups]
    return replace(table, warnings=warnings(shown), notes=notes(shown, table, tested))


def _keys(keys: str | Sequence[str]) -> tuple[str, ...]:
    parts = keys.split(",") if isinstance(keys, str) else keys
    return tuple(part.strip() for part in parts if part.strip())


def _cell(row: str, col: str, records: Sequence[Record], metric: str, published: float | None) -> Cell:
    complete = [record for record in records if record.status == COMPLETE]
    measured = [(record, value) for record in complete if (value := record.metrics.get(metric)) is not None]
    values = tuple(value for _, value in measured)
    return Cell(
        row,
        col,
        runs=tuple(record.signature for record, _ in measured),
        seeds=tuple(record.spec["seed"] for record, _ in measured),
        values=values,
        summary=summarize(values),
        published=published,
        diverged=sum(record.status == DIVERGED for record in records),
        failed=sum(record.status == FAILED for record in records),
        without=len(complete) - len(measured),
    )


def _mark_best(
    cells: Mapping[tuple[str, str], Cell], axes: tuple[Sequence[str], Sequence[str]], *, larger: bool
) -> tuple[dict[tuple[str, str], Cell], int]:
    """Mark the best cell of each column where it beats the runner-up; also return the number of tests made.

    A cell that lost runs is never marked: its mean is that of the survivors.
    """
    candidates: list[tuple[str, str]] = []
    p_values: list[float] = []
    for col in axes[1]:
        column = [cells[row, col] for row in axes[0] if (row, col) in cells]
        ranked = sorted((c for c in column if c.values), key=lambda c: fmean(c.values), reverse=larger)
        if len(ranked) < 2:
            continue
        first, second = ranked[0].by_seed(), ranked[1].by_seed()
        paired = compare(first, second) if first is not None and second is not None else None
        if paired is not None and paired.n >= MIN_SEEDS and paired.p_two_sided is not None:
            candidates.append((ranked[0].row, col))
            p_values.append(paired.p_two_sided)
    marked = dict(cells)
    for place, p in zip(candidates, holm(p_values), strict=True):
        whole = marked[place].asked == marked[place].summary.n
        if p < LEVEL and whole:
            marked[place] = replace(marked[place], best=True)
    return marked, len(candidates)
