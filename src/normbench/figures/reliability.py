"""Reliability curves: share of hits against confidence, mean ± sd over runs (guo2017, figure 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from normbench.figures.canvas import Canvas
from normbench.figures.grid import lost_notes
from normbench.figures.look import COLUMN, in_style, look
from normbench.phrases import counted
from normbench.report.calibration import Reliability

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def reliability(cells: Sequence[Reliability], *, width: float = COLUMN) -> Figure:
    """One curve per cell over its bins; on the diagonal, confidence equals the share of hits.

    The legend gives the expected calibration error. Lost runs are named in the small print.

    Args:
        cells: as `report.calibration` gives them.
        width: of the figure, in inches.
    """
    legend: list[tuple[Any, str]] = []
    with in_style():
        canvas = Canvas(width, aspect=0.85)
        canvas.axes.plot([0, 1], [0, 1], color="#777777", linewidth=0.8)
        for place, cell in enumerate(cells):
            own = look(place)
            x = [each.confidence for each in cell.bins]
            y = [each.hits.mean or 0.0 for each in cell.bins]
            spread = [each.hits.sd or 0.0 for each in cell.bins]
            handle = canvas.axes.errorbar(
                x, y, spread if any(spread) else None, color=own.colour, linestyle=own.line,
                marker=own.marker, capsize=2, elinewidth=0.8,
            )  # fmt: skip
            ece = "" if cell.ece.mean is None else f"ECE {100 * cell.ece.mean:.2f} %"
            legend.append(
                (handle, f"{cell.label} ({ece})" if cell.label and ece else cell.label or ece or "–")
            )
        canvas.axes.set_xlim(0, 1)
        canvas.axes.set_ylim(0, 1.02)
        canvas.axes.set_xlabel("confidence")
        canvas.axes.set_ylabel("share of hits")
        counts = sorted({cell.ece.n for cell in cells if cell.ece.n})
        runs = counted(counts[0], "run") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} runs"
        notes = [f"Mean ± sd over {runs}, per bin of confidence." if counts != [1] else "One run per curve."]
        notes += lost_notes((cell.label or "lost", cell.remarks()) for cell in cells)
        return canvas.finish(legend, notes)
