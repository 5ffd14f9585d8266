"""A metric against a key, one line per row of a table: mean ± sd as bands, published numbers dashed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from normbench.figures.canvas import Canvas
from normbench.figures.grid import Series, grid, lost, notes
from normbench.figures.look import COLUMN, PUBLISHED, Look, in_style, look
from normbench.figures.names import short_name
from normbench.figures.scales import Positions, positions, set_x
from normbench.report.cells import Table
from normbench.report.metrics import NumberFormat
from normbench.report.table_layout import caption

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def line(table: Table, *, width: float = COLUMN) -> Figure:
    """Lines of means with bands of one standard deviation, along the columns of a table.

    A hollow marker is a mean of some of the runs asked for. A cross at the top edge is a cell whose runs all
    diverged or failed, a circle at the bottom edge one that lacks its runs. The small print names them.

    Args:
        table: one line per row label; published numbers of its cells are a dashed line of the same colour.
        width: of the figure, in inches.
    """
    found = grid(table)
    form = table.number_format
    where = positions(found.labels)
    legend: list[tuple[Any, str]] = []
    with in_style():
        canvas = Canvas(width)
        for place, series in enumerate(found.series):
            handle = _draw(canvas.axes, series, where, form, look(place), place)
            if series.label:
                legend.append((handle, series.label))
        canvas.axes.set_xlabel(short_name(found.x))
        canvas.axes.set_ylabel(short_name(caption(table)))
        set_x(canvas.axes, found.labels, where, width)
        return canvas.finish(legend, notes(table, found, _marks(found.series)))


def _draw(axes: Axes, series: Series, where: Positions, form: NumberFormat, own: Look, place: int) -> Any:
    """One series; returns the handle of its legend entry."""
    pairs = list(zip(where.places, series.cells, strict=True))
    means = [(x, cell.summary.mean * form.factor) for x, cell in pairs if cell.summary.mean is not None]
    [handle] = axes.plot(
        [x for x, _ in means], [y for _, y in means],
        color=own.colour, linestyle=own.line, marker=own.marker, gid=f"mean-{place}",
    )  # fmt: skip
    spread = [(x, cell.summary.mean, cell.summary.sd or 0.0) for x, cell in pairs if cell.summary.n]
    if any(sd for *_, sd in spread):
        low = [((mean or 0.0) - sd) * form.factor for _, mean, sd in spread]
        high = [((mean or 0.0) + sd) * form.factor for _, mean, sd in spread]
        axes.fill_between([x for x, *_ in spread], low, high, color=own.colour, alpha=0.2, linewidth=0)
    partial = [(x, y) for (x, y), (_, cell) in zip(means, _with_mean(pairs), strict=True) if lost(cell)]
    axes.plot(
        [x for x, _ in partial], [y for _, y in partial],
        color=own.colour, linestyle="none", marker=own.marker, markerfacecolor="white",
    )  # fmt: skip
    _mark_empty(axes, pairs, own, place)
    published = [(x, cell.published * form.factor) for x, cell in pairs if cell.published is not None]
    if published:
        axes.plot(
            [x for x, _ in published], [y for _, y in published],
            color=own.colour, linestyle=PUBLISHED, linewidth=0.9, marker=own.marker, markersize=2.5,
            gid=f"published-{place}",
        )  # fmt: skip
    return handle


def _with_mean(pairs: list[tuple[float, Any]]) -> list[tuple[float, Any]]:
    return [(x, cell) for x, cell in pairs if cell.summary.mean is not None]


def _mark_empty(axes: Axes, pairs: list[tuple[float, Any]], own: Look, place: int) -> None:
    """Marks at the edges for cells without a mean. Those of several series stand below each other."""
    for x, cell in pairs:
        if cell.summary.mean is None and cell.published is None and lost(cell):
            broken = cell.diverged + cell.failed > 0
            axes.plot(
                [x], [1 - 0.05 * place if broken else 0.03 + 0.05 * place],
                color=own.colour, marker="x" if broken else "o", markerfacecolor="none", linestyle="none",
                transform=axes.get_xaxis_transform(), clip_on=False,
            )  # fmt: skip


def _marks(series: tuple[Series, ...]) -> list[str]:
    """What marks mean, for those that occur."""
    cells = [cell for each in series for cell in each.cells]
    empty = [cell for cell in cells if cell.summary.mean is None and cell.published is None and lost(cell)]
    texts = {
        "Dashed: published.": any(cell.published is not None for cell in cells),
        "Hollow: some runs lost.": any(cell.summary.mean is not None and lost(cell) for cell in cells),
        "Cross: all runs diverged or failed.": any(cell.diverged + cell.failed for cell in empty),
        "Circle below: no value.": any(not cell.diverged + cell.failed for cell in empty),
    }
    found = [text for text, occurs in texts.items() if occurs]
    return [" ".join(found)] if found else []
