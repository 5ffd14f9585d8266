"""A metric along training: mean ± sd over the complete runs of each cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from normbench.figures.canvas import Canvas
from normbench.figures.grid import lost_notes
from normbench.figures.look import COLUMN, Look, in_style, look
from normbench.figures.names import short_name
from normbench.figures.scales import set_log_y
from normbench.phrases import counted
from normbench.report.courses import Courses
from normbench.report.metrics import NumberFormat, number_format

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Markers on a curve, to tell curves apart in grey print.
_MARKERS = 5


def curve(cells: Sequence[Courses], metric: str, x: str = "step", *, width: float = COLUMN) -> Figure:
    """One curve per cell with a band of one standard deviation.

    A diverged run is a thin line of its own that ends in a cross. Lost runs are named in the small print.

    Args:
        cells:  as `report.courses` gives them.
        metric: name of the y axis.
        x:      name of the x axis.
        width:  of the figure, in inches.
    """
    form = form_of(cells, metric)
    legend: list[tuple[Any, str]] = []
    with in_style():
        canvas = Canvas(width)
        for place, cell in enumerate(cells):
            own = look(place)
            found = cell.summaries()
            means = [(summary.mean or 0.0) * form.factor for summary in found.values()]
            spreads = [(summary.sd or 0.0) * form.factor for summary in found.values()]
            [handle] = canvas.axes.plot(
                list(found), means, color=own.colour, linestyle=own.line, marker=own.marker,
                markevery=every(len(found), place),
            )  # fmt: skip
            if any(spreads):
                low = [mean - sd for mean, sd in zip(means, spreads, strict=True)]
                high = [mean + sd for mean, sd in zip(means, spreads, strict=True)]
                canvas.axes.fill_between(list(found), low, high, color=own.colour, alpha=0.2, linewidth=0)
            draw_diverged(canvas.axes, cell, own, form)
            if cell.label:
                legend.append((handle, cell.label))
        return finish(canvas, cells, metric, x, form, legend, "Mean ± sd")


def form_of(cells: Sequence[Courses], metric: str) -> NumberFormat:
    """How the values of a metric are written; errors in percent."""
    values = [y for cell in cells for course in (*cell.complete, *cell.diverged) for y in course.y]
    return number_format(metric, values, values)


def every(points: int, place: int) -> tuple[int, int]:
    """First marker, and points between markers; curves have them at different places."""
    step = max(1, points // _MARKERS)
    return place * max(1, step // 3) % step, step


def draw_diverged(axes: Axes, cell: Courses, own: Look, form: NumberFormat) -> None:
    """Every diverged run as a thin line that ends in a cross."""
    for course in cell.diverged:
        y = [value * form.factor for value in course.y]
        axes.plot(course.x, y, color=own.colour, linewidth=0.6, alpha=0.8)
        axes.plot(course.x[-1:], y[-1:], color=own.colour, marker="x", linestyle="none")


def finish(
    canvas: Canvas,
    cells: Sequence[Courses],
    metric: str,
    x: str,
    form: NumberFormat,
    legend: Sequence[tuple[Any, str]],
    shown: str,
) -> Figure:
    """Axes, legend and small print of a figure along training.

    Args:
        shown: what is drawn of several runs, such as "Mean ± sd".
    """
    axes = canvas.axes
    set_log_y(axes, [y for cell in cells for course in (*cell.complete, *cell.diverged) for y in course.y])
    axes.set_xlabel(x.replace("_", " "))
    axes.set_ylabel(short_name(f"{metric} ({form.unit})" if form.unit else metric))
    counts = sorted({len(cell.complete) for cell in cells if cell.complete})
    notes = []
    if counts:
        runs = counted(counts[0], "run") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} runs"
        notes.append(f"{shown} of {runs}." if counts != [1] else "One run per curve.")
    if any(cell.diverged for cell in cells):
        notes.append("Thin lines to a cross: diverged runs.")
    notes += lost_notes((cell.label or "lost", cell.remarks() or _empty(cell)) for cell in cells)
    return canvas.finish(legend, notes)


def _empty(cell: Courses) -> str:
    return "" if cell.complete else "no run"
