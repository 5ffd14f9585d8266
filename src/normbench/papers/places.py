"""Places of a table: its cells, named by the values of row and column keys.

Two keys are not settings of a run. `metric` is the number shown: it names a metric, and so a source of
statistics too (`test_error@precise`). `arm` is the name that a grid gives its runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Annotated

import yaml
from pydantic import Field

from normbench.labels import label
from normbench.report.axes import METRIC
from normbench.visible import visible

ARM = "arm"

Scalar = bool | int | float | str | None
#: A cell, or a set of cells, by the values of row and column keys.
Place = dict[str, Scalar]
#: Override words of a grid: one value per key, or several.
Grid = dict[str, Scalar | Annotated[tuple[Scalar, ...], Field(strict=False, min_length=1)]]
#: The same place, with the text that a table shows for each value.
Texts = Mapping[str, str]


def words(values: Scalar | Sequence[Scalar]) -> tuple[str, ...]:
    """Values as they are written after `key=`, each once.

    >>> words((True, 2, None)), words("bn")
    (('true', '2', 'null'), ('bn',))
    """
    listed = values if isinstance(values, (tuple, list)) else (values,)
    return tuple(dict.fromkeys(map(_word, listed)))


def text_of(word: str) -> str:
    """The label of a cell for a word of a grid.

    >>> text_of("1.0e-3"), text_of("[100,100]")
    ('0.001', '100-100')
    """
    return visible(label(yaml.safe_load(word)))


def cells(grids: Iterable[Mapping[str, Sequence[str]]], keys: Sequence[str]) -> list[dict[str, str]]:
    """The cells that grids span, each once, in the order of the grids.

    Args:
        grids: words by key; every grid has all keys.
        keys:  row and column keys, without `metric`.
    """
    found: dict[tuple[str, ...], None] = {}
    for grid in grids:
        found.update(dict.fromkeys(product(*([text_of(word) for word in grid[key]] for key in keys))))
    return [dict(zip(keys, texts, strict=True)) for texts in found]


def matching(places: Iterable[Texts], wanted: Mapping[str, Scalar]) -> Iterator[Texts]:
    """The places that have the wanted values; the key `metric` is not compared."""
    texts = {key: visible(label(value)) for key, value in wanted.items() if key != METRIC}
    return (place for place in places if all(place.get(key) == text for key, text in texts.items()))


def _word(value: Scalar) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
