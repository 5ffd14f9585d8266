"""Where the values of a key stand on an axis: logarithmic for powers of two or ten, linear, or by name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from normbench.figures.canvas import rotate_if_long
from normbench.figures.names import tick

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Largest over smallest value from which an axis is logarithmic.
_WIDE = 100.0


class Positions(NamedTuple):
    """Places on an axis: a number per label, and the base of the logarithm; 0 for a linear axis."""

    places: tuple[float, ...]
    base: int
    numeric: bool


def positions(labels: Sequence[str]) -> Positions:
    """The places of labels. They are numbers if all labels are, else 0, 1, 2, …

    >>> positions(["2", "8", "32"])
    Positions(places=(2.0, 8.0, 32.0), base=2, numeric=True)
    >>> positions(["0.1", "0.001"]).base, positions(["10", "20", "30"]).base, positions(["bn", "2"]).places
    (10, 0, (0.0, 1.0))
    """
    numbers = [number for label in labels if (number := _number(label)) is not None]
    if len(numbers) < len(labels) or len({*numbers}) < len(labels):
        return Positions(tuple(map(float, range(len(labels)))), 0, False)
    return Positions(tuple(numbers), base(numbers), True)


def base(numbers: Sequence[float]) -> int:
    """The base of a logarithmic axis for these numbers; 0 if the axis should be linear."""
    if len(numbers) < 2 or min(numbers) <= 0:
        return 0
    for each in (2, 10):
        if all(_is_power(number, each) for number in numbers):
            return each
    return 10 if max(numbers) / min(numbers) >= _WIDE else 0


def set_x(axes: Axes, labels: Sequence[str], found: Positions, width: float) -> None:
    """Scale, ticks and tick labels of the x axis: one tick per label."""
    if found.base:
        axes.set_xscale("log", base=found.base)
    axes.set_xticks(found.places, [tick(label) for label in labels])
    axes.minorticks_off()
    rotate_if_long(axes, labels, width)


def set_log_y(axes: Axes, values: Iterable[float]) -> None:
    """Make the y axis logarithmic if all values are positive and the largest is 100 times the smallest."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    known = list(values)
    if not known or min(known) <= 0 or max(known) / min(known) < _WIDE:
        return
    axes.set_yscale("log", nonpositive="clip")
    axes.yaxis.set_major_locator(LogLocator(10, numticks=8))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _number(label: str) -> float | None:
    try:
        number = float(label)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _is_power(number: float, of: int) -> bool:
    exponent = math.log(number, of)
    return math.isclose(exponent, round(exponent), abs_tol=1e-9)
