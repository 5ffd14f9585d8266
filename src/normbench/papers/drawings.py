"""The figures that a table declares, drawn from its report: `figures:` of the file → SVG or PNG."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from normbench.errors import InputError
from normbench.labels import label
from normbench.papers.drawn_axes import apply_log
from normbench.papers.drawn_runs import FROM_RUNS, Drawable, from_runs
from normbench.papers.figures import Figure
from normbench.papers.lost_runs import places_of
from normbench.papers.reproduction import PaperReport
from normbench.report.axes import METRIC
from normbench.report.cells import Cell, Table
from normbench.report.rearranged import rearranged, values_along
from normbench.report.tables import build_table
from normbench.visible import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawn


@dataclass(frozen=True)
class Drawing:
    """A figure of a table, or one panel of it.

    name:  its part of a file name: the id of the figure, with the value of its panel.
    title: one line for the caption.
    text:  what is drawn, in words, for readers who cannot see it.
    file:  SVG or PNG; None if it cannot be drawn.
    fault: why it cannot be drawn; empty if it is.
    """

    name: str
    title: str
    text: str
    file: bytes | None
    fault: str = ""


def declared(report: PaperReport) -> tuple[Figure, ...]:
    """The figures that the file has at the scale; if it has none, one of the means."""
    chosen = (each for each in report.paper.figures if not each.scales or report.scale in each.scales)
    return tuple(chosen) or of_means(report.table)


def of_means(table: Table) -> tuple[Figure, ...]:
    """A figure of the means of a table: along its last column key, else bars along its last row key."""
    rows, cols = ([key for key in keys if key != METRIC] for keys in (table.rows, table.cols))
    if cols:
        hue = rows[0] if rows else None
        return (Figure(id="means", kind="curve", x=cols[-1], hue=hue, published=True),)
    return (Figure(id="means", kind="bars", x=rows[-1], published=True),) if rows else ()


def drawings(figures: Sequence[Figure], drawn: Drawable, format: str = "svg") -> tuple[Drawing, ...]:
    """Every figure, one drawing per panel. What cannot be drawn says why.

    Args:
        format: svg or png.
    """
    return tuple(
        _drawing(drawn, figure, panel, format) for figure in figures for panel in _panels(drawn.table, figure)
    )


def _panels(table: Table, figure: Figure) -> list[dict[str, str]]:
    """The cells of each panel, by key."""
    keys = (*table.rows, *table.cols)
    wanted = {key: visible(label(value)) for key, value in figure.where.items()}
    if METRIC in keys and METRIC not in {*figure.keys}:
        wanted[METRIC] = figure.metric or table.metrics[0]
    if figure.panel is None:
        return [wanted]
    return [wanted | {figure.panel: text} for text in values_along(table, figure.panel, wanted)]


def _drawing(source: Drawable, figure: Figure, wanted: Mapping[str, str], format: str) -> Drawing:
    panel = "" if figure.panel is None else wanted[figure.panel]
    title = figure.title or figure.id.replace("_", " ")
    if figure.panel is not None:
        title = f"{title}, {figure.panel} {panel}"
    name = f"{figure.id}.{_safe(panel)}" if panel else figure.id
    text = _in_words(figure, wanted.get(METRIC) or figure.metric or source.table.metric)
    try:
        file, fault = _file(source, figure, wanted, format), ""
    except InputError as error:
        file, fault = None, str(error)
    except Exception as error:  # a figure never costs the table: matplotlib may be absent or broken
        file, fault = None, f"{type(error).__name__}: {error}"
    return Drawing(_safe(name), title, text, file, " ".join(fault.split()))


def _file(source: Drawable, figure: Figure, wanted: Mapping[str, str], format: str) -> bytes:
    from normbench.figures.image import image

    drawn = _drawn(source, figure, wanted)
    apply_log(drawn, figure.log)
    return image(drawn, format)


def _drawn(source: Drawable, figure: Figure, wanted: Mapping[str, str]) -> Drawn:
    from normbench.figures.bars import bars
    from normbench.figures.heat import heat
    from normbench.figures.line import line

    table = _measuring(source, figure)
    others = _others(table, figure, wanted)
    if figure.kind in FROM_RUNS:
        return from_runs(source, figure, wanted, others)
    cols = [figure.x] if figure.x is not None else []
    rows = [key for key in (figure.y, figure.hue) if key is not None] + others
    if not rows:
        rows, cols = cols, []
    shown = rearranged(table, rows, cols, wanted)
    if not figure.published:
        cells = {place: replace(cell, published=None) for place, cell in shown.cells.items()}
        shown = replace(shown, cells=cells)
    return {"curve": line, "bars": bars, "heat": heat}[figure.kind](shown)


def _measuring(source: Drawable, figure: Figure) -> Table:
    """The table, or one of another metric in the same cells."""
    table = source.table
    if figure.metric is None or figure.metric in table.metrics or figure.kind in FROM_RUNS:
        return table
    keys = ([key for key in keys if key != METRIC] for keys in (table.rows, table.cols))
    rows, cols = keys
    places = {
        axis: list(dict.fromkeys(
            tuple(text for key, text in zip(each.keys, texts, strict=False) if key != METRIC)
            for texts in each.parts.values()
        ))
        for axis, each in (("rows", table.row_axis), ("cols", table.col_axis))
    }  # fmt: skip
    axes = (places["rows"], places["cols"] if cols else [figure.metric])
    built = build_table(source.records, rows, cols, figure.metric, axes=axes)
    lost = {texts: table.cells[place] for place, texts in places_of(table).items() if place in table.cells}
    cells = {
        place: replace(built.cells.get(place, Cell(*place)), missing=lost[texts].missing,
                       impossible=lost[texts].impossible)
        for place, texts in places_of(built).items() if texts in lost
    }  # fmt: skip
    return replace(built, cells=cells)


def _others(table: Table, figure: Figure, wanted: Mapping[str, str]) -> list[str]:
    """Further keys with several values among the drawn cells; they name series, so that nothing is pooled."""
    roles = {figure.x, figure.y, figure.hue, figure.over, figure.panel, *wanted}
    keys = (key for key in (*table.rows, *table.cols) if key not in roles)
    return [key for key in keys if len(values_along(table, key, wanted)) > 1]


def _in_words(figure: Figure, metric: str) -> str:
    shown = {
        "curve": f"{metric} against {figure.x}, mean with one standard deviation",
        "training": f"{metric} against steps, mean with one standard deviation",
        "bars": f"{metric} per value of {figure.x}, with one standard deviation",
        "heat": f"{metric} over {figure.x} and {figure.y}",
        "band": f"{metric} against steps, smallest to largest over {figure.over}",
        "reliability": "share of hits against confidence",
        "percentiles": "percentiles of the input of one unit against steps",
    }[figure.kind]
    series = f", one series per {figure.hue}" if figure.hue else ""
    return f"{shown}{series}. The numbers stand in the table or with the runs."


def _safe(text: str) -> str:
    """Text as a part of a file name.

    >>> _safe("resnet20"), _safe("../a b")
    ('resnet20', '..-a-b')
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)
