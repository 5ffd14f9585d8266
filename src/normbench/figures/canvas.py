"""The paper that a kind draws on: axes, a legend above them, and notes in small print below."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from normbench.figures.look import SMALL, TEXT
from normbench.figures.names import short_name, tick
from normbench.visible import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Height of the axes of one panel, as a share of its width.
_ASPECT = 0.62
#: Width of an average character, and height of a line, as shares of the size of the text.
_CHARACTER, _LINE = 0.55, 1.25
_POINTS = 72.0


class Canvas:
    """A figure with one or more panels. Call `finish` last, within `look.in_style`.

    Args:
        width:  of the figure in inches.
        panels: number of axes, at most two side by side.
        aspect: height of a panel as a share of its width.
    """

    def __init__(self, width: float, panels: int = 1, aspect: float = _ASPECT) -> None:
        from matplotlib.figure import Figure

        self._columns = min(panels, 2)
        self._rows = math.ceil(panels / self._columns)
        self._aspect = aspect
        self.figure: Figure = Figure(figsize=(width, aspect * width), layout="constrained")
        grid = self.figure.subplots(self._rows, self._columns, squeeze=False, sharex=True, sharey=True)
        places = [axes for line in grid for axes in line]
        for empty in places[panels:]:
            empty.set_axis_off()
        self.panels: list[Axes] = places[:panels]

    @property
    def axes(self) -> Axes:
        """The first panel."""
        return self.panels[0]

    def finish(self, legend: Sequence[tuple[Any, str]] = (), notes: Sequence[str] = ()) -> Figure:
        """Add legend and notes, and make the figure as high as they need.

        Args:
            legend: handles with their texts; none for no legend.
            notes:  lines for the small print; they are wrapped.
        """
        width = self.figure.get_figwidth()
        height = self._aspect * width / self._columns * self._rows + 0.25
        if legend:
            texts = [short_name(text) for _, text in legend]
            columns = _columns(texts, width)
            height += math.ceil(len(texts) / columns) * _LINE * SMALL / _POINTS + 0.08
            self.figure.legend(
                [handle for handle, _ in legend], texts, loc="outside upper left", ncols=columns,
                frameon=False, borderaxespad=0.2, handlelength=2.6, columnspacing=1.0, labelspacing=0.2,
            )  # fmt: skip
        small = "\n".join(line for note in notes for line in _wrapped(visible(note), width))
        if small:
            below = (small.count("\n") + 1) * _LINE * SMALL / _POINTS + 0.06
            height += below
            engine: Any = self.figure.get_layout_engine()
            engine.set(rect=(0, below / height, 1, 1 - below / height))
            self.figure.text(0.02, 0.04 / height, small, size=SMALL, va="bottom", linespacing=1.1)
        self.figure.set_size_inches(width, height)
        return self.figure


def _wrapped(text: str, width: float) -> list[str]:
    return textwrap.wrap(text, int(0.96 * width * _POINTS / (_CHARACTER * SMALL)))


def _columns(texts: Sequence[str], width: float) -> int:
    """Number of columns of a legend that fit beside each other; a handle takes about six characters."""
    room = width * _POINTS / (_CHARACTER * SMALL)
    return max(1, min(len(texts), int(room // (max(map(len, texts)) + 7))))


def rotate_if_long(axes: Axes, labels: Sequence[str], width: float) -> None:
    """Turn the labels of the x axis if they do not fit beside each other."""
    room = 0.8 * width * _POINTS / (_CHARACTER * TEXT)
    if sum(len(tick(label)) + 1 for label in labels) > room:
        axes.tick_params(axis="x", labelrotation=35)
        for text in axes.get_xticklabels():
            text.set_horizontalalignment("right")
            text.set_rotation_mode("anchor")
