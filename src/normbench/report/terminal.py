"""Tables on a terminal. Columns that do not fit side by side are split over several grids, never wrapped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.segment import Segment
from rich.table import Table as Grid
from rich.text import Text as Styled

from normbench.report.cells import Table
from normbench.report.images import IMAGES
from normbench.report.run_list import RunList
from normbench.report.table_layout import Line, Text, caption, corner, lines

#: Characters between two columns of a grid.
_GAP = 3
#: Characters per line of a label, at least.
_LABEL = 8


def renderable(table: Table, console: Console) -> RenderableType:
    """The table with its warnings and footnotes, laid out for the width of the console.

    If the columns do not fit, spread and remark move below the mean; if that is not enough, the columns are
    split over several grids. Without styles, as in a pipe or a log, a star marks what is bold elsewhere.
    """
    starred = console.color_system is None
    body = lines(table)
    console.width = max(console.width, _least_width(table, body, starred))
    parts: list[RenderableType] = [Styled(caption(table), style="bold")]
    parts += _grids(table, body, console.width, starred)
    parts += [Styled(f"Warning: {warning}", style="yellow") for warning in table.warnings]
    parts += [Styled(_plain(note) if starred else note, style="dim") for note in table.notes]
    return Group(*parts)


def run_lines(runs: RunList, console: Console) -> RenderableType:
    """A grid with one line per run; numbers stand to the right. A narrow terminal wraps whole lines.

    PERF: the lines are put together here, because rich takes 0.3 ms for a line of a grid.
    """
    columns = []
    for place, (name, *texts) in enumerate(zip(runs.columns, *runs.texts(), strict=True)):
        numbers = all(isinstance(row[place], int | float | None) for row in runs.rows)
        columns.append(_column([name, *texts], right=numbers))
    head, *body = map((" " * _GAP).join, zip(*columns, strict=True))
    console.width = max(console.width, cell_len(head))
    return Group(Styled(head, style="bold"), Styled("─" * cell_len(head)), _Lines(body))


@dataclass(frozen=True)
class _Lines:
    """Plain lines that are never wrapped or read as markup."""

    lines: Sequence[str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for line in self.lines:
            yield Segment(line)
            yield Segment.line()


def _column(texts: Sequence[str], *, right: bool) -> list[str]:
    """Texts, filled up to the width of the widest one."""
    widths = list(map(cell_len, texts))
    most = max(widths)
    fill = (" " * (most - width) for width in widths)
    pairs = zip(fill, texts, strict=True)
    return [gap + text if right else text + gap for gap, text in pairs]


def _plain(note: str) -> str:
    return f"Star (*): {note.removeprefix('Bold: ')}" if note.startswith("Bold: ") else note


def _grids(table: Table, body: Sequence[Line], width: int, starred: bool) -> list[Grid]:
    first = max(cell_len(text) for text in (corner(table), *map(_name, body)))
    if table.images:  # the head may take several lines: its longest word is kept whole
        first += _GAP + max(cell_len(text) for text in (*IMAGES.split(), *table.images.values()))
    for stacked in (False, True):
        widths = [
            max(cell_len(header), *(_cell(line.texts[i], stacked, starred)[1] for line in body))
            for i, header in enumerate(table.col_labels)
        ]
        if first + sum(_GAP + each for each in widths) <= width:
            return [_grid(table, body, range(len(widths)), stacked, starred)]
    chunks: list[list[int]] = []
    used = width
    for i, each in enumerate(widths):
        used += _GAP + each
        if used > width:
            chunks.append([])
            used = first + _GAP + each
        chunks[-1].append(i)
    return [_grid(table, body, chunk, True, starred) for chunk in chunks]


def _least_width(table: Table, body: Sequence[Line], starred: bool) -> int:
    """The width of the widest cell beside labels that wrap. On a narrower terminal no number may be cut."""
    cells = [_cell(text, True, starred)[1] for line in body for text in line.texts]
    return _LABEL + _GAP + max(cells, default=0)


def _grid(table: Table, body: Sequence[Line], columns: Sequence[int], stacked: bool, starred: bool) -> Grid:
    grid = _empty_grid()
    grid.add_column(Styled(corner(table)), overflow="fold")
    if table.images:
        grid.add_column(Styled(IMAGES.replace(" ", "\n")), justify="right", overflow="fold")
    for i in columns:
        grid.add_column(Styled(table.col_labels[i]), justify="right", overflow="fold")
    for line in body:
        texts = [_cell(line.texts[i], stacked, starred)[0] for i in columns]
        images = [Styled(line.images)] if table.images else []
        grid.add_row(Styled(_name(line)), *images, *texts, style="dim" if line.published else "")
    return grid


def _empty_grid() -> Grid:
    return Grid(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")


def _name(line: Line) -> str:
    return f"  {line.label}" if line.published else line.label


def _cell(text: Text, stacked: bool, starred: bool) -> tuple[Styled, int]:
    """A cell and its width."""
    mean = f"{text.mean}*" if text.best and starred else text.mean
    remark = f"({text.remark})" if text.remark else ""
    gap = "\n" if stacked else " "
    rest = [text.spread, remark.replace(" ", "\n") if stacked else remark]
    cell = Styled(mean, style="bold" if text.best else "")
    for part in filter(None, rest):
        cell.append(gap + part, style="not bold")
    return cell, max(map(cell_len, cell.plain.split("\n")))
