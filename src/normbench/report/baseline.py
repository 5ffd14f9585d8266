"""`table --baseline`: how the cells of a table differ from those of one row or column, paired by seed.

The difference is cell minus baseline over the seeds that both have. Its 95 % t-interval is that of one mean;
it is not corrected for the number of cells.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from normbench.errors import InputError, unknown
from normbench.report.cells import Cell, Difference, Place, Table
from normbench.report.stats import summarize


@dataclass(frozen=True)
class _Baseline:
    """The value of one key. `place` is its position among the keys of rows and columns."""

    place: int
    text: str


def with_differences(table: Table, baseline: str) -> Table:
    """The table with the difference of every cell from the baseline.

    A cell whose counterpart shares no seed with it, or repeats a seed, has no difference.

    Args:
        baseline: a value of a row or column key, such as `bn`; `key=value` if several keys have that value.

    Raises:
        InputError: no key or several keys have that value.
    """
    found = _find(table, baseline)
    counterpart = {table.parts(row, col): (row, col) for row in table.row_labels for col in table.col_labels}
    cells: dict[Place, Cell] = {}
    for place, cell in table.cells.items():
        texts = table.parts(*place)
        if texts[found.place] != found.text:
            other = counterpart.get((*texts[: found.place], found.text, *texts[found.place + 1 :]))
            base = None if other is None else table.cells.get(other)
            cell = replace(cell, difference=_difference(cell, base))
        cells[place] = cell
    note = (
        f"minus {found.text}: mean of the differences over the seeds that both cells have, [95 % interval], "
        "not corrected for the number of cells."
    )
    if not any(cell.difference for cell in cells.values()):
        note = (
            f"minus {found.text}: no cell can be paired; two cells need a seed in common, with one run each."
        )
    return replace(
        table, cells=cells, baseline=found.text, notes=(*table.notes[:-1], note, *table.notes[-1:])
    )


def _difference(cell: Cell, base: Cell | None) -> Difference | None:
    a, b = cell.by_seed(), None if base is None else base.by_seed()
    if not a or not b or not a.keys() & b.keys():
        return None
    n, mean, _, ci95 = summarize([a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())])
    return None if mean is None else Difference(n, mean, ci95)


def _find(table: Table, baseline: str) -> _Baseline:
    keys = (*table.rows, *table.cols)
    texts: list[dict[str, None]] = [{} for _ in keys]
    for row in table.row_labels:
        for col in table.col_labels:
            for known, text in zip(texts, table.parts(row, col), strict=True):
                known[text] = None
    key, sign, text = baseline.partition("=")
    if sign and key in keys:
        places, wanted = [keys.index(key)], text
    else:
        places, wanted = list(range(len(keys))), baseline
    having = [place for place in places if wanted in texts[place]]
    if not having:
        raise unknown("baseline", baseline, [text for place in places for text in texts[place]])
    if len(having) > 1:
        hint = " or ".join(f"{keys[place]}={wanted}" for place in having)
        raise InputError(f"--baseline {baseline} is a value of several keys; give {hint}")
    return _Baseline(having[0], wanted)
