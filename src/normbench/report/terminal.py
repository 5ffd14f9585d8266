"""Tables on a terminal. What does not fit side by side is stacked, never wrapped."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table as Grid
from rich.text import Text as Styled

from normbench.report.cells import Table
from normbench.report.table_layout import Line, Text, caption, corner, lines


def renderable(table: Table, console: Console) -> RenderableType:
    """The table with its warnings and footnotes, laid out for the width of the console.

    Where the columns do not fit, spread and remark move below the mean; where that is not enough, the columns
    are split over several grids.
    """
    body = lines(table)
    parts: list[RenderableType] = [Styled(caption(table), style="bold")]
    parts += _grids(table, body, console)
    parts += [Styled(f"Warning: {warning}", style="yellow") for warning in table.warnings]
    parts += [Styled(note, style="dim") for note in table.notes]
    return Group(*parts)


def _grids(table: Table, body: Sequence[Line], console: Console) -> list[RenderableType]:
    count = len(table.col_labels)
    for per_grid in range(count, 0, -1):
        chunks = [slice(start, start + per_grid) for start in range(0, count, per_grid)]
        for stacked in (False, True):
            grids = [_grid(table, body, chunk, stacked=stacked) for chunk in chunks]
            if all(_width(grid, console) <= console.width for grid in grids):
                return list(grids)
    return [_grid(table, body, slice(place, place + 1), stacked=True) for place in range(count)]


def _grid(table: Table, body: Sequence[Line], chunk: slice, *, stacked: bool) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    grid.add_column(corner(table), no_wrap=True)
    for header in table.col_labels[chunk]:
        grid.add_column(header, justify="right", no_wrap=True)
    for line in body:
        name = Styled(f"  {line.label}" if line.published else line.label)
        texts = [_cell(text, stacked) for text in line.texts[chunk]]
        grid.add_row(name, *texts, style="dim" if line.published else "")
    return grid


def _cell(text: Text, stacked: bool) -> Styled:
    cell = Styled(text.mean, style="bold" if text.best else "")
    gap = "\n" if stacked else " "
    if text.spread:
        cell.append(gap + text.spread, style="not bold")
    if text.remark:
        remark = f"({text.remark})"
        cell.append(gap + (remark.replace(" ", "\n") if stacked else remark), style="not bold")
    return cell


def _width(grid: Grid, console: Console) -> int:
    return Measurement.get(console, console.options.update(width=10_000), grid).maximum
