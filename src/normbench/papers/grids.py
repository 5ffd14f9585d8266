"""From a scale's grids, and what the user sets on top of them, to the override words of every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from normbench.papers.description import PaperTable, Scalar, Scale

#: What a user sets on top of a table: override keys, each with its values.
Extra = Mapping[str, Sequence[Scalar]]

#: An override that a user gives and the word of a grid that says the same quantity in another way.
_REPLACES = {"epochs": "steps", "workers": "total"}


def grids(scale: Scale, extra: Extra | None = None) -> list[dict[str, tuple[str, ...]]]:
    """The grids of a scale as override words, changed by what the user asks for.

    Args:
        extra: values to take instead of a grid's, by override key; other keys are added. Values of a row or
            column key also select: of several grids those stay that have one of them, unless none has.
    """
    chosen = [{key: _words(values) for key, values in grid.items()} for grid in scale.grids]
    for key, values in (extra or {}).items():
        words = _words(tuple(values))
        if key in (*scale.rows, *scale.cols):
            chosen = [grid for grid in chosen if set(grid[key]) & set(words)] or chosen
        chosen = [{**grid, key: words} for grid in chosen]
    replaced = {_REPLACES[key] for key in extra or {} if key in _REPLACES} - set(extra or {})
    return [{key: words for key, words in grid.items() if key not in replaced} for grid in chosen]


def sweeps(table: PaperTable, scale: str, extra: Extra | None = None) -> list[list[str]]:
    """The runs that a table needs as sweep words, one list per grid: `norm=bn,gn batch=32,2 …`.

    Composing these is some thirty times faster than composing the words of every run. Runs that two grids
    share occur twice.

    Raises:
        InputError: the table has no such scale.
    """
    return [
        [f"{key}={','.join(words)}" for key, words in grid.items()]
        for grid in grids(table.scale(scale), extra)
    ]


def overrides(table: PaperTable, scale: str, extra: Extra | None = None) -> list[list[str]]:
    """The runs that a table needs, each as its override words; no two are the same.

    Raises:
        InputError: the table has no such scale.
    """
    runs: dict[tuple[str, ...], None] = {}
    for grid in grids(table.scale(scale), extra):
        for values in product(*grid.values()):
            runs[tuple(f"{key}={word}" for key, word in zip(grid, values, strict=True))] = None
    return [list(words) for words in runs]


def _words(values: Scalar | tuple[Scalar, ...]) -> tuple[str, ...]:
    """Values as they are written after `key=`, each once."""
    listed = values if isinstance(values, tuple) else (values,)
    return tuple(dict.fromkeys(_word(value) for value in listed))


def _word(value: Scalar) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
