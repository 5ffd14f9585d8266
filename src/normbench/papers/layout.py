"""The table of a scale: our runs beside the published numbers, in the rows and columns of the file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product

from normbench.papers.description import PaperTable, Scale
from normbench.papers.grids import Extra, grids
from normbench.papers.places import text_of
from normbench.papers.published import MARKS, TRUST, Published
from normbench.record import Record
from normbench.report.axes import JOINT, METRIC, agrees
from normbench.report.cells import Table
from normbench.report.tables import build_table

#: A row or column: one text per key.
Parts = tuple[str, ...]
_Axes = tuple[Sequence[Parts], Sequence[Parts]]


def arrange(
    paper: PaperTable,
    scale: str,
    records: Sequence[Record],
    extra: Extra | None = None,
    absent: Mapping[str, str] | None = None,
) -> Table:
    """The table of a scale.

    Args:
        records: of its runs; with arms, as `labelled` makes them.
        extra:   the values that the user set.
        absent:  why a data set is not there, by its name: its cells are n/a.
    """
    chosen = paper.scale(scale)
    metrics = paper.metrics_at(scale)
    every = grids(chosen, extra)
    axes = _axes(chosen, metrics, every)
    published = _published(paper, chosen, axes)
    numbers = {place: number for place, (number, _) in published.items()}
    table = build_table(records, chosen.rows, chosen.cols, metrics, published=numbers, axes=axes)
    cells = {
        place: cell
        if cell.published is None
        else replace(cell, trust=published[place][1].trust, mark=MARKS[published[place][1].trust])
        for place, cell in table.cells.items()
    }
    table = replace(table, cells=cells)
    if absent:
        gone = _without_data(chosen, metrics, every, grids(chosen, extra, absent), absent)
        table = table.with_impossible(gone)
    sources = list({source.id: source for _, source in published.values()}.values())
    return replace(table, notes=(*table.notes, *map(_note, sources), *_legend(sources)))


def labelled(records: Iterable[Record], arm: str) -> list[Record]:
    """The records of one arm, so that the key `arm` finds its name."""
    return [replace(record, spec={**record.spec, "arm": arm}) for record in records]


def _axes(scale: Scale, metrics: Sequence[str], chosen: Sequence[Mapping[str, Sequence[str]]]) -> _Axes:
    """The rows and columns that the grids span, one text per key, in the order of the file."""
    rows: dict[Parts, None] = {}
    cols: dict[Parts, None] = {}
    for grid in chosen:
        for axis, keys in ((rows, scale.rows), (cols, scale.cols)):
            values = (metrics if key == METRIC else [text_of(word) for word in grid[key]] for key in keys)
            axis.update(dict.fromkeys(product(*values)))
    return list(rows), list(cols) if scale.cols else [(metrics[0],)]


def _published(
    paper: PaperTable, scale: Scale, axes: _Axes
) -> dict[tuple[str, str], tuple[float, Published]]:
    """The published numbers that belong beside cells, each with its source. A later source wins."""
    found: dict[tuple[str, str], tuple[float, Published]] = {}
    known = {source.id: source for source in paper.published}
    first = paper.metrics[0]
    for beside in scale.published:
        source = known[beside.id]
        for where, number in source.numbers():
            wanted = {**beside.where, **where}
            if METRIC in scale.axes and METRIC not in wanted:
                wanted[METRIC] = first
            for row, col in product(*axes):
                parts = (*row, *(col if scale.cols else ()))
                if agrees(scale.axes, parts, wanted):
                    found[JOINT.join(row), JOINT.join(col)] = (number, source)
    return found


def _without_data(
    scale: Scale,
    metrics: Sequence[str],
    every: Sequence[Mapping[str, Sequence[str]]],
    there: Sequence[Mapping[str, Sequence[str]]],
    absent: Mapping[str, str],
) -> dict[tuple[str, str], str]:
    """The cells that only runs on absent data have, with the reason."""

    def spanned(grid: Mapping[str, Sequence[str]]) -> set[tuple[str, str]]:
        axes = _axes(scale, metrics, [grid])
        return {(JOINT.join(row), JOINT.join(col)) for row, col in product(*axes)}

    kept = set().union(*map(spanned, there)) if there else set()
    found: dict[tuple[str, str], str] = {}
    for grid in every:
        for name in grid.get("data", ()):
            if name in absent:
                places = spanned({**grid, "data": (name,)}) - kept
                found |= dict.fromkeys(sorted(places), absent[name])
    return found


def _note(source: Published) -> str:
    return f"Published: {source.source} ({source.setting}), {TRUST[source.trust]}."


def _legend(sources: Sequence[Published]) -> list[str]:
    """What the marks behind published numbers mean."""
    marks = {MARKS[source.trust]: TRUST[source.trust] for source in sources if MARKS[source.trust]}
    return [f"Marks: {'; '.join(f'{mark} {meaning}' for mark, meaning in marks.items())}."] if marks else []
