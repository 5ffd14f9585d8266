"""Figures from tables and training curves: pure functions from report values to a matplotlib Figure.

    figure = line(table)                     # error against batch, with bands
    Path("f.svg").write_bytes(image(figure, "svg"))

One kind per file. Colours are safe for colour-blind readers, and line styles, markers or hatches differ too.
Widths are in inches, sizes of text in points. matplotlib is imported inside functions: it takes a second.
Runs that diverged, failed or are missing are marked and named; they are never left out in silence.
"""

from __future__ import annotations

#: Kind of figure → what it shows. Each has a module of its name with a function of its name.
KINDS = {
    "line": "a metric against a key: mean ± sd, published numbers dashed",
    "bars": "means with error bars, grouped by a key",
    "heat": "a metric over two keys as colours",
    "curve": "a metric along training: mean ± sd over seeds",
    "band": "a metric along training: smallest to largest of the runs",
    "percentiles": "percentiles of one unit's input along training",
    "reliability": "share of hits against confidence",
}
