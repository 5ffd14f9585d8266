"""Figures of a table that need more than its cells: curves along training, and reliability."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from normbench.errors import InputError
from normbench.labels import MISSING
from normbench.papers.figures import Figure
from normbench.record import Metrics, Record
from normbench.report.axes import METRIC
from normbench.report.calibration import reliabilities
from normbench.report.cells import Table
from normbench.report.courses import Courses, courses
from normbench.report.rearranged import values_along
from normbench.report.selection import Condition

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawn

#: The kinds that are drawn from the runs.
FROM_RUNS = ("training", "band", "percentiles", "reliability")


@dataclass(frozen=True)
class Drawable:
    """What figures are drawn from.

    records: the runs of the table.
    history: gives the curve of a run by its signature.
    """

    table: Table
    records: Sequence[Record]
    history: Callable[[str], Sequence[Metrics]]


def from_runs(source: Drawable, figure: Figure, wanted: Mapping[str, str], others: Sequence[str]) -> Drawn:
    """A figure of one of the kinds FROM_RUNS.

    Args:
        wanted: texts of the drawn cells by key.
        others: keys that name series beside `hue`.

    Raises:
        InputError: the runs do not have what the figure shows.
    """
    from normbench.figures.band import band
    from normbench.figures.curve import curve
    from normbench.figures.percentiles import percentiles
    from normbench.figures.reliability import reliability

    keys = [key for key in (figure.hue, *others) if key is not None and key != METRIC]
    metric = figure.metric or wanted.get(METRIC) or source.table.metrics[0]
    conditions = _conditions(source.table, keys, wanted)
    if figure.kind == "reliability":
        statistics = metric.partition("@")[2]
        name = f"test_reliability@{statistics}" if statistics else "test_reliability"
        return reliability(reliabilities(source.records, keys, name, conditions=conditions))
    runs = [run for run in source.records if all(condition.admits(run) for condition in conditions)]
    histories = {run.signature: source.history(run.signature) for run in runs}

    def cells(name: str) -> tuple[Courses, ...]:
        return courses(source.records, histories, keys, name, conditions=conditions)

    if figure.kind == "percentiles":
        unit, found = _percentiles(figure.metric, histories)
        return percentiles({p: cells(f"{unit}/p{p}") for p in found}, unit)
    draw = {"training": curve, "band": band}[figure.kind]
    return draw(cells(metric), metric)


def _conditions(table: Table, keys: Sequence[str], wanted: Mapping[str, str]) -> list[Condition]:
    """The drawn cells; the values of the keys are listed too, because that gives their order."""
    listed = {key: [text] for key, text in wanted.items() if key != METRIC}
    listed |= {key: values_along(table, key, wanted) for key in keys if key not in wanted}
    return [
        Condition(key, tuple("null" if text == MISSING else text for text in texts), True)
        for key, texts in listed.items()
    ]


def _percentiles(asked: str | None, histories: Mapping[str, Sequence[Metrics]]) -> tuple[str, list[int]]:
    """The diagnostic whose percentiles are drawn, and the percentiles that curves have of it."""
    names = {name for history in histories.values() for point in history for name in point}
    units = sorted({name.partition("/")[0] for name in names if name.startswith("percentiles")})
    unit = asked.partition("/")[0] if asked else next(iter(units), "")
    if unit not in units:
        raise InputError("no run has percentiles along training; a grid needs diagnostics=[percentiles:100]")
    return unit, sorted(int(name.rpartition("/p")[2]) for name in names if name.startswith(f"{unit}/p"))
