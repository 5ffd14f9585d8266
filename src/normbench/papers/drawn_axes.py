"""Logarithmic axes that a figure of a table asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def apply_log(figure: Figure, log: Sequence[str]) -> None:
    """Make axes of a drawn figure logarithmic, unless they have values that are not positive.

    Args:
        log: of x, y and color.
    """
    for axes in figure.axes:
        if "x" in log and axes.get_xscale() == "linear" and _labels_are_places(axes):
            places, labels = axes.get_xticks(), [text.get_text() for text in axes.get_xticklabels()]
            axes.set_xscale("log")
            axes.set_xticks(places, labels)
            axes.minorticks_off()
        if "y" in log and axes.get_yscale() == "linear" and _lowest(axes) > 0:
            axes.set_yscale("log", nonpositive="clip")
        if "color" in log and axes.images:
            _log_colours(axes)


def _labels_are_places(axes: Axes) -> bool:
    """Whether the ticks of the x axis are positive numbers that stand at their values, not names."""
    try:
        return all(
            place > 0 and abs(float(text.get_text()) - place) <= 1e-9 * abs(place)
            for place, text in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        )
    except ValueError:
        return False


def _lowest(axes: Axes) -> float:
    """The lowest value that lines and bars reach, in data units; 0 without values.

    Marks at the edges of the axes have other units and do not count.
    """
    import numpy as np
    from matplotlib.patches import Rectangle

    lines = (line for line in axes.lines if line.get_transform() == axes.transData)
    values = [float(y) for line in lines for y in np.asarray(line.get_ydata(), dtype=float)]
    bars = [bar.get_height() for bar in axes.patches if isinstance(bar, Rectangle) and bar.get_height()]
    return min([y for y in [*values, *bars] if math.isfinite(y)], default=0.0)


def _log_colours(axes: Axes) -> None:
    from matplotlib.colors import LogNorm

    for drawn in axes.images:
        low, high = drawn.get_clim()
        if low is not None and high is not None and 0 < low < high:
            drawn.set_norm(LogNorm(low, high))
