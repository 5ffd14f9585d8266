"""Means with error bars, grouped along a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from normbench.figures.canvas import Canvas, rotate_if_long
from normbench.figures.grid import grid, lost, notes
from normbench.figures.look import COLUMN, PUBLISHED, in_style, look
from normbench.figures.names import short_name, tick
from normbench.report.cells import Table
from normbench.report.table_layout import caption

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Share of the distance between groups that bars fill.
_FILLED = 0.8


def bars(table: Table, *, width: float = COLUMN) -> Figure:
    """One group of bars per column of a table, one bar per row; error bars are one standard deviation.

    A bar of some of the runs asked for has a star above it. A group without a bar has a cross if its runs
    diverged or failed, else a circle. A dashed line across a bar is the published number.

    Args:
        table: one colour and hatch per row label.
        width: of the figure, in inches.
    """
    from matplotlib.patches import Patch

    found = grid(table)
    form = table.number_format
    bar = _FILLED / len(found.series)
    legend: list[tuple[Any, str]] = []
    marks: dict[str, None] = {}
    with in_style():
        canvas = Canvas(width)
        axes = canvas.axes
        for place, series in enumerate(found.series):
            own = look(place)
            left = [i + bar * (place + 0.5) - _FILLED / 2 for i in range(len(series.cells))]
            known = [(x, cell) for x, cell in zip(left, series.cells, strict=True) if cell.summary.n]
            face: dict[str, Any] = {
                "facecolor": own.colour, "alpha": 0.75, "hatch": own.hatch,
                "edgecolor": "black", "linewidth": 0.5,
            }  # fmt: skip
            axes.bar(
                [x for x, _ in known], [(cell.summary.mean or 0.0) * form.factor for _, cell in known], bar,
                yerr=[(cell.summary.sd or 0.0) * form.factor for _, cell in known],
                capsize=2, error_kw={"linewidth": 0.8}, **face,
            )  # fmt: skip
            if series.label:
                legend.append((Patch(**face), series.label))
            for x, cell in zip(left, series.cells, strict=True):
                if cell.published is not None:
                    height = cell.published * form.factor
                    axes.plot([x - bar / 2, x + bar / 2], [height] * 2, color="black", linestyle=PUBLISHED)
                    marks["Dashed: published."] = None
                if cell.summary.n and lost(cell):
                    top = ((cell.summary.mean or 0.0) + (cell.summary.sd or 0.0)) * form.factor
                    axes.annotate("*", (x, top), ha="center", va="bottom")
                    marks["Star: some runs lost."] = None
                elif not cell.summary.n and cell.published is None and lost(cell):
                    broken = cell.diverged + cell.failed > 0
                    axes.plot(
                        [x], [0.03], color=own.colour, marker="x" if broken else "o", linestyle="none",
                        markerfacecolor="none", transform=axes.get_xaxis_transform(),
                    )  # fmt: skip
                    marks["Cross: all runs diverged or failed." if broken else "Circle: no value."] = None
        axes.set_xticks(range(len(found.labels)), [tick(label) for label in found.labels])
        axes.grid(visible=False, axis="x")
        rotate_if_long(axes, found.labels, width)
        axes.set_xlabel(short_name(found.x))
        axes.set_ylabel(short_name(caption(table)))
        return canvas.finish(legend, notes(table, found, [" ".join(marks)] if marks else []))
