"""Which cell of a column is marked as the best: only one that a paired test finds better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import mean

from normbench.report.cells import Cell
from normbench.report.stats import LEVEL, MIN_SEEDS, Paired, compare, holm

Place = tuple[str, str]


def mark_best(
    cells: Mapping[Place, Cell], rows: Sequence[str], cols: Sequence[str], directions: Sequence[int]
) -> tuple[dict[Place, Cell], int]:
    """Mark the best cell of each column if it is significantly better than the runner-up.

    The best cell is better than each other cell over the seeds that the two share, and by the means shown.
    The runner-up is the cell that comes closest over the shared seeds. A cell that lost runs is never marked:
    its mean is that of the survivors. Columns with repeated seeds or without common seeds are not tested.

    Args:
        directions: per column 1 if more is better, −1 if less is better, 0 if that is not known: nothing is
            marked then.

    Returns:
        The cells, and the number of tests over which Holm's correction was made.
    """
    best: list[Place] = []
    p_values: list[float] = []
    for col, direction in zip(cols, directions, strict=True):
        if not direction:
            continue
        column = [cells[row, col] for row in rows if (row, col) in cells and cells[row, col].values]
        found = _best(column, direction)
        if found is None:
            continue
        cell, runner_up = found
        if runner_up.n >= MIN_SEEDS and runner_up.p_two_sided is not None:
            best.append((cell.row, col))
            p_values.append(runner_up.p_two_sided)
    marked = dict(cells)
    for place, p in zip(best, holm(p_values), strict=True):
        whole = marked[place].asked == marked[place].summary.n
        if p < LEVEL and whole:
            marked[place] = replace(marked[place], best=True)
    return marked, len(best)


def _best(column: Sequence[Cell], direction: int) -> tuple[Cell, Paired] | None:
    """The best cell and its comparison with the runner-up; None if no cell is better than all others."""
    seeds = [cell.by_seed() for cell in column]
    if len(column) < 2 or not all(seeds):
        return None
    pairs = [values for values in seeds if values is not None]
    first = max(range(len(column)), key=lambda i: direction * (column[i].summary.mean or 0.0))
    runner_up = None
    for i, values in enumerate(pairs):
        if i == first:
            continue
        if (lead := _lead(pairs[first], values, direction)) is None or lead <= 0:
            return None
        if runner_up is None or lead < runner_up[0]:
            runner_up = (lead, i)
    assert runner_up is not None
    paired = compare(pairs[first], pairs[runner_up[1]])
    return None if paired is None else (column[first], paired)


def _lead(a: Mapping[int, float], b: Mapping[int, float], direction: int) -> float | None:
    """By how much a is better than b in the mean over the seeds that both have; None if they share none."""
    common = a.keys() & b.keys()
    return direction * float(mean(a[seed] - b[seed] for seed in common)) if common else None
