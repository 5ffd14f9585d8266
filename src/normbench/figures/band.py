"""A metric along training: from the smallest to the largest of the runs of each cell.

With runs at several learning rates in one cell, it shows how the landscape of the loss varies
(santurkar2018, figure 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from normbench.figures.canvas import Canvas
from normbench.figures.curve import draw_diverged, every, finish, form_of
from normbench.figures.look import COLUMN, in_style, look
from normbench.report.courses import Courses

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def band(cells: Sequence[Courses], metric: str, x: str = "step", *, width: float = COLUMN) -> Figure:
    """One band per cell between the smallest and the largest run, with a line for the middle one.

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
            found = cell.extents()
            low, middle, high = (
                [form.factor * extent[i] for extent in found.values()] for i in range(3)
            )  # fmt: skip
            canvas.axes.fill_between(list(found), low, high, color=own.colour, alpha=0.3, linewidth=0)
            [handle] = canvas.axes.plot(
                list(found), middle, color=own.colour, linestyle=own.line, marker=own.marker,
                markevery=every(len(found), place),
            )  # fmt: skip
            draw_diverged(canvas.axes, cell, own, form)
            if cell.label:
                legend.append((handle, cell.label))
        return finish(canvas, cells, metric, x, form, legend, "Smallest, middle and largest")
