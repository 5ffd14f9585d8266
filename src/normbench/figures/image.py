"""A figure as the bytes of an SVG or PNG file. The same figure gives the same bytes of SVG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from normbench.errors import unknown
from normbench.figures.look import in_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("svg", "png")
#: Dots per inch of a PNG.
DPI = 300


def image(figure: Figure, format: str) -> bytes:
    """The file of a figure. It holds no date and no version of matplotlib.

    Args:
        figure: as a kind of `normbench.figures` made it.
        format: svg or png.

    Raises:
        InputError: another format.
    """
    if format not in FORMATS:
        raise unknown("format of figures", format, FORMATS)
    out = io.BytesIO()
    metadata = {"svg": {"Date": None, "Creator": "normbench"}, "png": {"Software": "normbench"}}[format]
    with in_style():
        figure.savefig(out, format=format, dpi=DPI, metadata=metadata)
    return out.getvalue()
