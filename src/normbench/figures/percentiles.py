"""Percentiles of one unit's input along training, one panel per cell.

As in ioffe2015, figure 1, and wu2018, figure 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from normbench.figures.canvas import Canvas
from normbench.figures.grid import lost_notes
from normbench.figures.look import COLOURS, COLUMN, in_style
from normbench.figures.names import short_name
from normbench.report.courses import Courses

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Pairs of percentiles with the space between them filled, and how dark it is.
_FILLED = ((1, 99, 0.12), (15, 85, 0.25))
_LINES: Mapping[int, Any] = {
    1: (0, (1, 1)), 15: (0, (3, 1)), 20: (0, (3, 1, 1, 1)), 50: "solid", 80: (0, (3, 1, 1, 1)),
    85: (0, (3, 1)), 99: (0, (1, 1)),
}  # fmt: skip


def percentiles(
    cells: Mapping[int, Sequence[Courses]], name: str, x: str = "step", *, width: float = COLUMN
) -> Figure:
    """Means over runs of the percentiles, one panel per cell.

    Args:
        cells: percentile → cells, as `report.courses` gives them; the cells are the same for all.
        name:  of the diagnostic, such as `percentiles@fc2.7`.
        x:     name of the x axis.
        width: of the figure, in inches.
    """
    first = next(iter(cells.values()))
    colour = COLOURS[0]
    legend: dict[str, Any] = {}
    with in_style():
        canvas = Canvas(width, len(first), aspect=0.62 if len(first) == 1 else 0.85)
        for place, axes in enumerate(canvas.panels):
            means = {
                percentile: {at: summary.mean or 0.0 for at, summary in found[place].summaries().items()}
                for percentile, found in cells.items()
            }
            for low, high, dark in _FILLED:
                shared = sorted(means.get(low, {}).keys() & means.get(high, {}).keys())
                if shared:
                    lower, upper = ([means[p][at] for at in shared] for p in (low, high))
                    axes.fill_between(shared, lower, upper, color=colour, alpha=dark, linewidth=0)
            for percentile, curve in means.items():
                [handle] = axes.plot(
                    list(curve), list(curve.values()), color=colour,
                    linestyle=_LINES.get(percentile, "solid"), linewidth=1.4 if percentile == 50 else 0.8,
                )  # fmt: skip
                mirror = 100 - percentile
                pair = sorted({percentile, mirror}) if mirror in means else [percentile]
                legend.setdefault(", ".join(f"{p} %" for p in pair), handle)
            if first[place].label:
                axes.set_title(short_name(first[place].label))
            if place + 2 >= len(first):  # the last panel of its column
                axes.set_xlabel(x.replace("_", " "))
                axes.tick_params(labelbottom=True)
        canvas.figure.supylabel(f"input of one unit ({short_name(name)})", fontsize="medium")
        counts = sorted({len(cell.complete) for cell in first})
        runs = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
        notes = [f"Means over {runs} run{'s' * (counts != [1])} per panel."]
        notes += lost_notes((cell.label or "lost", cell.remarks()) for cell in first)
        return canvas.finish([(handle, text) for text, handle in legend.items()], notes)
