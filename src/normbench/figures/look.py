"""The look of figures: colours, line styles, markers, hatches, sizes. The same for every kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

#: Widths of a figure in inches: a column of a two-column paper, and a page.
COLUMN, PAGE = 3.3, 6.9
#: Text in points.
TEXT, SMALL = 8.0, 7.0

#: Okabe and Ito's colours without yellow, which is too faint for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
#: Dashes belong to published numbers alone.
PUBLISHED = (0, (4, 2))
_LINES: tuple[Any, ...] = (
    "solid", (0, (6, 1, 1, 1)), (0, (1, 1)), (0, (6, 1, 1, 1, 1, 1)), (0, (3, 1, 1, 1)),
)  # fmt: skip
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h", "*")
_HATCHES = ("", "///", "...", "\\\\\\", "xxx", "---", "|||", "ooo", "+++")

_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "normbench",  # the same figure gives the same bytes
    "text.parse_math": False,  # a $ in a name is a dollar
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": TEXT,
    "axes.labelsize": TEXT,
    "axes.titlesize": TEXT,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.4,
    "grid.color": "#DDDDDD",
    "lines.linewidth": 1.2,
    "lines.markersize": 4.0,
    "hatch.linewidth": 0.6,
}


class Look(NamedTuple):
    """How one series is drawn."""

    colour: str
    line: Any
    marker: str
    hatch: str


def look(place: int) -> Look:
    """The look of the series at a place. Each of the first 385 series has its own.

    >>> len({look(place)[:3] for place in range(385)})
    385
    """
    return Look(
        COLOURS[place % len(COLOURS)],
        _LINES[place % len(_LINES)],
        _MARKERS[place % len(_MARKERS)],
        _HATCHES[place % len(_HATCHES)],
    )


@contextmanager
def in_style() -> Iterator[None]:
    """Draw with these settings, whatever the user's own matplotlibrc says."""
    from matplotlib import style

    with style.context(["default", _SETTINGS]):
        yield
