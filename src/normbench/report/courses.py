"""What runs measured along training, arranged as cells: the values behind training curves.

Only complete runs enter means. A diverged run keeps a course of its own, up to its last finite point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from normbench.errors import InputError, unknown
from normbench.record import COMPLETE, DIVERGED, FAILED, Metrics, Record
from normbench.record_checks import is_number
from normbench.report.axes import JOINT, knobs_to_name, ordered, parts
from normbench.report.selection import Condition, check_keys, select
from normbench.report.stats import Summary, summarize

#: What may stand along the x axis.
ALONG = ("step", "epoch", "images_seen")


class Course(NamedTuple):
    """One run: the values of a metric along training."""

    seed: int
    x: tuple[float, ...]
    y: tuple[float, ...]


class Extent(NamedTuple):
    """Several runs at one point: smallest, middle and largest value."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Courses:
    """The runs of one cell.

    Attributes:
        label:    values of the keys; empty if there are no keys.
        complete: the complete runs with a value, sorted by seed.
        diverged: the diverged runs with a value, up to their last finite point.
        lost:     number of runs that do not enter the mean, by what became of them.
        asked:    number of runs asked for.
    """

    label: str
    complete: tuple[Course, ...] = ()
    diverged: tuple[Course, ...] = ()
    lost: Mapping[str, int] | None = None
    asked: int = 0

    def points(self) -> dict[float, tuple[float, ...]]:
        """The values of all complete runs, at each x that all of them have."""
        curves = [dict(zip(course.x, course.y, strict=True)) for course in self.complete]
        shared = set.intersection(*(set(curve) for curve in curves)) if curves else set()
        return {x: tuple(curve[x] for curve in curves) for x in sorted(shared)}

    def summaries(self) -> dict[float, Summary]:
        """Mean and standard deviation over runs, by x."""
        return {x: summarize(values) for x, values in self.points().items()}

    def extents(self) -> dict[float, Extent]:
        """Smallest, middle and largest value over runs, by x."""
        return {
            x: Extent(min(values), float(median(values)), max(values)) for x, values in self.points().items()
        }

    def remarks(self) -> str:
        """What became of the runs that do not enter the mean, in words; empty if none was lost."""
        return ", ".join(f"{count}/{self.asked} {word}" for word, count in (self.lost or {}).items() if count)


def courses(
    records: Sequence[Record],
    histories: Mapping[str, Sequence[Metrics]],
    keys: Sequence[str],
    metric: str,
    x: str = "step",
    *,
    conditions: Sequence[Condition] = (),
    missing: Sequence[Record] = (),
) -> tuple[Courses, ...]:
    """Arrange the training curves of runs by the values of keys, in the order of tables.

    Args:
        records:    the runs, diverged and failed ones included.
        histories:  points of their curves, by signature.
        keys:       of the cells; none for one cell.
        metric:     of the points, such as `train_loss` or `smoothness/loss_range`.
        x:          one of ALONG.
        conditions: that a run must meet.
        missing:    runs that were asked for and have no record. They are counted.

    Raises:
        InputError: an unknown key, metric or x, no run to show, or runs of a cell without a common point.
    """
    if x not in ALONG:
        raise unknown("x of a curve", x, ALONG)
    check_keys(records, keys)
    records = sorted(select(records, conditions), key=lambda run: (run.spec["seed"], run.signature))
    missing = [run for run in missing if all(condition.admits(run) for condition in conditions)]
    _check_metric(metric, [point for run in records for point in histories.get(run.signature, ())])
    every = [*records, *missing]
    knobs = knobs_to_name(every, keys, ())
    cells: dict[str, list[Record]] = {label: [] for label in ordered(every, keys, conditions, knobs).labels}
    for run in every:
        cells[JOINT.join(parts(run, keys, knobs))].append(run)
    found = tuple(_cell(label, runs, histories, metric, x) for label, runs in cells.items())
    for cell in found:
        if cell.complete and not cell.points():
            raise InputError(
                f"the runs of {cell.label or 'this figure'} have no {x} in common; "
                "name what differs with --hue, or select with --where"
            )
    return found


def _cell(
    label: str, runs: Sequence[Record], histories: Mapping[str, Sequence[Metrics]], metric: str, x: str
) -> Courses:
    found = {id(run): _course(run, histories.get(run.signature, ()), metric, x) for run in runs}
    by_status = {
        status: [run for run in runs if run.status == status] for status in (COMPLETE, DIVERGED, FAILED)
    }
    complete = [course for run in by_status[COMPLETE] if (course := found[id(run)]).x]
    known = sum(map(len, by_status.values()))
    lost = {
        "diverged": len(by_status[DIVERGED]),
        "failed": len(by_status[FAILED]),
        "no value": len(by_status[COMPLETE]) - len(complete),
        "missing": len(runs) - known,
    }
    diverged = tuple(course for run in by_status[DIVERGED] if (course := found[id(run)]).x)
    return Courses(label, tuple(complete), diverged, lost, len(runs))


def _course(run: Record, history: Sequence[Metrics], metric: str, x: str) -> Course:
    pairs = [
        (float(point[x] or 0), float(y))
        for point in history
        if is_number(point.get(x)) and (y := point.get(metric)) is not None and is_number(y)
    ]
    return Course(run.spec["seed"], tuple(at for at, _ in pairs), tuple(y for _, y in pairs))


def _check_metric(metric: str, points: Sequence[Metrics]) -> None:
    known = {name for point in points for name in point} - {*ALONG}
    if metric not in known:
        remedy = "curves have what eval.every and diagnostics=[…] ask for along training"
        raise unknown("metric of curves", metric, known, remedy=remedy)
