"""From a scale's grids, and what the user sets on top of them, to the override words of every run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import product

from normbench.errors import unknown
from normbench.papers.description import PaperTable, Scale
from normbench.papers.places import ARM, Scalar, text_of, words

#: What a user sets on top of a table: override keys, each with its values.
Extra = Mapping[str, Sequence[Scalar]]

#: An override that a user gives and the word of a grid that says the same quantity in another way.
_REPLACES = {"epochs": "steps", "workers": "total"}


def grids(
    scale: Scale, extra: Extra | None = None, absent: Collection[str] = ()
) -> list[dict[str, tuple[str, ...]]]:
    """The grids of a scale as override words, changed by what the user asks for.

    Args:
        extra:  values to take instead of a grid's, by override key; other keys are added. Values of a row or
            column key also select: of several grids those stay that have one of them, unless none has.
        absent: data sets that are not there; their runs are left out. A grid without other data goes.

    Raises:
        InputError: extra names an arm that no grid has.
    """
    chosen = [{key: words(values) for key, values in grid.items()} for grid in scale.grids]
    for key, values in (extra or {}).items():
        given = words(tuple(values))
        if key == ARM:
            chosen = _arms(chosen, given)
            continue
        if key in scale.keys:
            chosen = [grid for grid in chosen if set(grid[key]) & set(given)] or chosen
        chosen = [{**grid, key: given} for grid in chosen]
    replaced = {_REPLACES[key] for key in extra or {} if key in _REPLACES} - set(extra or {})
    kept = [{key: each for key, each in grid.items() if key not in replaced} for grid in chosen]
    there = [_without(grid, absent) for grid in kept]
    return [grid for grid in there if all(grid.values())]


def sweeps(
    table: PaperTable, scale: str, extra: Extra | None = None, absent: Collection[str] = ()
) -> list[list[str]]:
    """The runs that a table needs as sweep words, one list per grid: `norm=bn,gn batch=32,2 …`.

    Composing these is some thirty times faster than composing the words of every run. Runs that two grids
    share occur twice. The lists are in the order of `grids`.

    Raises:
        InputError: the table has no such scale.
    """
    return [words_of(grid) for grid in grids(table.scale(scale), extra, absent)]


def words_of(grid: Mapping[str, Sequence[str]]) -> list[str]:
    """The sweep words of one grid."""
    return [f"{key}={','.join(values)}" for key, values in grid.items() if key != ARM]


def overrides(
    table: PaperTable, scale: str, extra: Extra | None = None, absent: Collection[str] = ()
) -> list[list[str]]:
    """The runs that a table needs, each as its override words; no two are the same.

    Raises:
        InputError: the table has no such scale.
    """
    runs: dict[tuple[str, ...], None] = {}
    for grid in grids(table.scale(scale), extra, absent):
        words_only = {key: values for key, values in grid.items() if key != ARM}
        for values in product(*words_only.values()):
            runs[tuple(f"{key}={word}" for key, word in zip(words_only, values, strict=True))] = None
    return [list(words) for words in runs]


def cell_sweeps(
    table: PaperTable,
    scale: str,
    cell: Sequence[str],
    seeds: Sequence[int],
    extra: Extra | None = None,
    absent: Collection[str] = (),
) -> list[tuple[str, list[str]]]:
    """Further seeds of one cell: for each grid that has it, the name of its arm and the sweep words.

    Args:
        cell: its texts in the order of the scale's keys.
    """
    keys = table.scale(scale).keys
    found = []
    for grid in grids(table.scale(scale), extra, absent):
        chosen = {
            key: [word for word in grid[key] if text_of(word) == text]
            for key, text in zip(keys, cell, strict=True)
        }
        if all(chosen.values()):
            named = {**grid, **chosen, "seed": [str(seed) for seed in seeds]}
            found.append(("".join(grid.get(ARM, ())), words_of(named)))
    return found


def _arms(
    chosen: list[dict[str, tuple[str, ...]]], given: tuple[str, ...]
) -> list[dict[str, tuple[str, ...]]]:
    known = [name for grid in chosen for name in grid.get(ARM, ())]
    for name in given:
        if name not in known:
            raise unknown("arm", name, known)
    return [grid for grid in chosen if set(grid[ARM]) & set(given)]


def _without(grid: dict[str, tuple[str, ...]], absent: Collection[str]) -> dict[str, tuple[str, ...]]:
    if "data" not in grid:
        return grid
    return {**grid, "data": tuple(name for name in grid["data"] if name not in absent)}
