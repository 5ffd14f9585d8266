"""Records in, a table as a pure value out: which runs lie in which cell, and their statistics.

Diverged and failed runs are counted and never enter a mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from normbench.errors import InputError
from normbench.record import COMPLETE, DIVERGED, FAILED, Record
from normbench.report.axes import JOINT, METRIC, Axis, knobs_to_name, ordered, parts
from normbench.report.best import mark_best
from normbench.report.cells import Cell, Table
from normbench.report.footnotes import Footnotes
from normbench.report.metrics import ENSEMBLE, TIMING, check_metric, direction, measured
from normbench.report.missing import lines_on
from normbench.report.picking import Picks, check_select, pick
from normbench.report.selection import Condition, check_keys, parse_condition, select
from normbench.report.stats import summarize

Place = tuple[str, str]
#: The labels along an axis: a text, or one text per key.
Labels = Sequence[str | Sequence[str]]


def build_table(
    records: Sequence[Record],
    rows: str | Sequence[str],
    cols: str | Sequence[str],
    metric: str | Sequence[str],
    where: str | Sequence[str] = (),
    *,
    select: str | Sequence[str] = (),
    published: Mapping[Place, float] | None = None,
    axes: tuple[Labels, Labels] | None = None,
    skipped: Sequence[Record] = (),
    missing: Sequence[Record] = (),
) -> Table:
    """Arrange records by the keys `rows` and `cols` and summarize `metric` in every cell.

    Args:
        rows, cols: dotted keys, a sequence or one text with commas; without cols the column is the metric.
            The key `metric` has one line per metric.
        metric: several metrics need the key `metric` among the rows or columns.
        where: conditions `key=value`, `key=a,b`, `key!=value`, all of which a run must meet.
        select: keys whose best value by validation is picked in every cell, see `picking`.
        published: numbers to show beside ours, by row and column label.
        axes: the row and column labels to show, in this order, whether or not they have runs. By default
            those of the records, in the order of `axes.ordered`.
        skipped: runs that cannot exist, see `skipped_runs`; a cell that has no other run says n/a.
        missing: runs that were asked for and have no record, as records without metrics. They are counted.

    Raises:
        InputError: an unknown key or metric, or no run to show; nearest names are offered. Also
            what `picking.pick` raises.
    """
    row_keys, col_keys, select_keys = keys_of(rows), keys_of(cols), keys_of(select)
    check_select(select_keys, (*row_keys, *col_keys))
    metrics = keys_of(metric)
    records = list({(record.signature, record.spec.get("arm")): record for record in records}.values())
    if not row_keys:
        raise InputError("a table needs at least one key for its rows; give for example rows=norm")
    if both := [key for key in row_keys if key in col_keys]:
        raise InputError(
            f"rows and columns must be different keys; {both[0]} is in both; give another key for one"
        )
    if METRIC in (*row_keys, *col_keys):
        records = [_showing(record, name) for name in metrics for record in records]
        skipped = [_showing(record, name) for name in metrics for record in skipped]
        missing = [_showing(record, name) for name in metrics for record in missing]
    elif len(metrics) != 1:
        raise InputError(f"one metric, or the key metric among rows or columns; got {', '.join(metrics)}")
    conditions = conditions_of(where)
    if axes is None:
        records = chosen(records, (*row_keys, *col_keys, *select_keys), metrics, conditions)
    skipped = [run for run in skipped if all(condition.admits(run) for condition in conditions)]
    missing = [run for run in missing if all(condition.admits(run) for condition in conditions)]
    knobs = knobs_to_name([*records, *missing], row_keys, col_keys, select_keys) if axes is None else {}
    if axes is not None:
        row_axis, col_axis = Axis.of(row_keys, axes[0]), Axis.of(col_keys, axes[1])
    else:
        every = [*records, *missing, *skipped]
        row_axis = ordered(every, row_keys, conditions, knobs)
        col_axis = ordered(every, col_keys, conditions, knobs) if col_keys else Axis.of((), metrics)

    def place_of(record: Record) -> Place:
        row = JOINT.join(parts(record, row_keys, knobs))
        return row, JOINT.join(parts(record, col_keys, knobs)) if col_keys else metrics[0]

    picks = Picks()
    if select_keys:
        records, picks = pick(records, place_of, select_keys, metrics[0])
    groups: dict[Place, list[Record]] = {}
    for record in sorted(records, key=lambda record: (record.spec["seed"], record.signature)):
        groups.setdefault(place_of(record), []).append(record)
    reasons = {place_of(run): str(run.provenance["error"]) for run in skipped}
    lacking = Counter(map(place_of, missing))
    named = ",".join(metrics)
    table = Table(named, row_axis, col_axis, picks=picks)
    cells = {}
    for place in ((row, col) for row in row_axis.labels for col in col_axis.labels):
        beside = (published or {}).get(place)
        if place in groups or beside is not None or place in reasons or place in lacking:
            cell = _cell(*place, groups.get(place, []), table.metric_at(*place), beside)
            impossible = "" if cell.asked else reasons.get(place, "")
            cells[place] = replace(cell, impossible=impossible, missing=lacking[place])
    shown = [groups[place] for place in cells if place in groups]
    shared = {*metrics} & {*TIMING} and any(r.provenance.get("stack_size", 1) != 1 for g in shown for r in g)
    unranked = shared or {*metrics} & {*ENSEMBLE}
    better = [0 if unranked else _direction(table, row_axis.labels, col) for col in col_axis.labels]
    cells, tested = mark_best(cells, row_axis.labels, col_axis.labels, better)
    table = replace(table, cells=cells)
    below = Footnotes(table, shown, tested, shared_time=bool(shared))
    warnings = (*below.warnings(), *lines_on(missing, records))
    return replace(table, warnings=warnings, notes=below.notes())


def keys_of(keys: str | Sequence[str]) -> tuple[str, ...]:
    """Keys as a tuple, each once; a text holds them with commas between."""
    listed = keys.split(",") if isinstance(keys, str) else keys
    return tuple(dict.fromkeys(key.strip() for key in listed if key.strip()))


def conditions_of(where: str | Sequence[str]) -> list[Condition]:
    """The conditions that the texts of `--where` say."""
    return [parse_condition(text) for text in ([where] if isinstance(where, str) else where)]


def chosen(
    records: Sequence[Record], keys: Sequence[str], metrics: Sequence[str], conditions: Sequence[Condition]
) -> list[Record]:
    """The records that meet the conditions, if the keys and the metrics exist.

    Raises:
        InputError: an unknown key or metric, or no run to show.
    """
    if not records:
        raise InputError("there are no records; train some, or set NORMBENCH_RESULTS to their folder")
    for metric in metrics:
        check_metric(records, metric)
    check_keys(records, keys)
    return select(records, conditions)


def _showing(record: Record, metric: str) -> Record:
    """The record in the lines of a metric."""
    return replace(record, spec={**record.spec, METRIC: metric})


def _direction(table: Table, rows: Sequence[str], col: str) -> int:
    """The direction of a column; 0 if its rows show metrics of different directions."""
    found = {direction(table.metric_at(row, col)) for row in rows}
    same = METRIC not in table.rows or len(table.metrics) == 1
    return found.pop() if len(found) == 1 and same else 0


def _cell(row: str, col: str, records: Sequence[Record], metric: str, published: float | None) -> Cell:
    complete = [record for record in records if record.status == COMPLETE]
    found = [(record, value) for record in complete if (value := measured(record, metric)) is not None]
    values = tuple(value for _, value in found)
    return Cell(
        row,
        col,
        runs=tuple(record.signature for record, _ in found),
        seeds=tuple(record.spec["seed"] for record, _ in found),
        values=values,
        summary=summarize(values),
        published=published,
        diverged=sum(record.status == DIVERGED for record in records),
        failed=sum(record.status == FAILED for record in records),
        without=len(complete) - len(found),
    )
