"""A metric over two keys as colours, with the number in every cell."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from normbench.errors import InputError
from normbench.figures.canvas import Canvas, rotate_if_long
from normbench.figures.grid import grid, lost, notes
from normbench.figures.look import COLUMN, SMALL, in_style
from normbench.figures.names import short_name, tick
from normbench.report.cells import Table
from normbench.report.table_layout import caption

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Its lightness rises evenly, also for colour-blind readers and in grey print.
_COLOURS = "cividis"


def heat(table: Table, *, width: float = COLUMN) -> Figure:
    """The rows and columns of a table as a heat map. The first row is at the top.

    A cell without a mean is hatched and says why. A star marks a mean of some of the runs asked for.

    Args:
        table: means are its cells.
        width: of the figure, in inches.

    Raises:
        InputError: the table has no columns.
    """
    import numpy as np
    from matplotlib.patches import Rectangle

    if not table.cols:
        raise InputError("a heat map needs two keys; give --x and --hue")
    found = grid(table)
    form = table.number_format
    means = np.array([
        [math.nan if cell.summary.mean is None else cell.summary.mean * form.factor for cell in series.cells]
        for series in found.series
    ])  # fmt: skip
    rows, cols = means.shape
    with in_style():
        canvas = Canvas(width, aspect=min(2.0, max(0.3, 0.09 * (rows + 1))))
        axes = canvas.axes
        axes.grid(visible=False)
        drawn = axes.imshow(np.ma.masked_invalid(means), cmap=_COLOURS, aspect="auto")
        middle = (np.nanmin(means) + np.nanmax(means)) / 2 if not np.isnan(means).all() else 0.0
        partial = False
        for i, series in enumerate(found.series):
            for j, cell in enumerate(series.cells):
                mean = means[i, j]
                if math.isnan(mean):
                    axes.add_patch(
                        Rectangle(
                            (j - 0.5, i - 0.5), 1, 1, facecolor="white", edgecolor="#999999", hatch="///"
                        )
                    )
                    text, colour = _why(lost(cell)), "black"
                else:
                    partial |= bool(lost(cell))
                    text = form(mean / form.factor) + "*" * bool(lost(cell))
                    colour = "white" if mean < middle else "black"
                axes.text(
                    j, i, text, ha="center", va="center", color=colour, size=SMALL,
                    bbox={"facecolor": "white", "linewidth": 0, "pad": 0.5} if math.isnan(mean) else None,
                )  # fmt: skip
        axes.set_xticks(range(cols), [tick(label) for label in found.labels])
        axes.set_yticks(range(rows), [tick(series.label) for series in found.series])
        rotate_if_long(axes, found.labels, width)
        axes.set_xlabel(short_name(found.x))
        axes.set_ylabel(short_name(found.hue))
        if not np.isnan(means).all():
            canvas.figure.colorbar(drawn, ax=axes, label=short_name(caption(table)))
        return canvas.finish((), notes(table, found, ["Star: some runs lost."] if partial else [], "Mean"))


def _why(what: str) -> str:
    """The shortest word for a cell without a mean.

    >>> [_why(what) for what in ("3/3 diverged", "1/2 failed, 1/2 missing", "2/2 missing", "", "n/a")]
    ['diverged', 'failed', 'missing', '–', 'n/a']
    """
    return next((word for word in ("diverged", "failed", "no value", "missing", "n/a") if word in what), "–")
