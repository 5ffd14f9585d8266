"""What the committed paper tables say about a norm: our cells, published numbers, claims.

Everything is read from results/reference/*/*.json and conf/paper. Errors are fractions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from docs_site.links import ROOT
from normbench import papers
from normbench.papers.description import PaperTable
from normbench.papers.published import MARKS

#: A norm fails in a cell if it errs this much more than the best norm of the same setting. A fraction.
MARGIN = 0.05


@dataclass(frozen=True)
class Cell:
    """One cell of a table that shows a norm.

    Attributes:
        table:    `<citekey>/<table>`.
        norm:     the key of the norm.
        place:    the other row and column keys with their values.
        mean, sd: of the first metric over n seeds; None if no run has a value.
        diverged: number of diverged runs.
    """

    table: str
    norm: str
    place: tuple[tuple[str, str], ...]
    metric: str
    mean: float | None
    sd: float | None
    n: int
    diverged: int


@cache
def results() -> dict[str, dict[str, Any]]:
    """The committed results by the name of their table, scale tiny."""
    files = sorted((ROOT / "results" / "reference").glob("*/*.tiny.json"))
    trees = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return {tree["paper"]: tree for tree in trees}


@cache
def tables() -> dict[str, PaperTable]:
    """The packaged tables by name."""
    return {name: papers.load(name) for name in papers.names()}


@cache
def cells() -> tuple[Cell, ...]:
    """All cells that show the first metric of a table with the key norm."""
    return tuple(cell for name, tree in results().items() for cell in _cells(name, tree))


def _cells(name: str, tree: dict[str, Any]) -> Iterator[Cell]:
    first = tree["metric"].split(",")[0]
    keys = [*tree["rows"], *tree["cols"]]
    if "norm" not in keys:
        return
    for cell in tree["cells"]:
        columns = cell["col"].split(" · ") if tree["cols"] else []
        place = dict(zip(keys, [*cell["row"].split(" · "), *columns], strict=True))
        if place.pop("metric", first) == first:
            norm = place.pop("norm")
            yield Cell(
                name, norm, tuple(place.items()), first, cell["mean"], cell["sd"], cell["n"], cell["diverged"]
            )


def about(norm: str) -> list[Cell]:
    """The cells of one norm."""
    return [cell for cell in cells() if cell.norm == norm]


def failures(norm: str) -> Iterator[tuple[Cell, Cell | None]]:
    """Cells in which the norm fails, each with the best norm of the same setting.

    It fails if runs diverged, or if its mean test error is at least MARGIN above the best one.
    """
    for cell in about(norm):
        rivals = [c for c in cells() if (c.table, c.place) == (cell.table, cell.place) and c.mean is not None]
        best = min(rivals, key=lambda c: c.mean or 0, default=None)
        behind = (
            cell.metric == "test_error" and best and cell.mean is not None and cell.mean - best.mean >= MARGIN
        )
        if cell.diverged or behind:
            yield cell, best if behind else None


@dataclass(frozen=True)
class Printed:
    """What one source printed about a norm.

    Attributes:
        table:   the table of this package that has it.
        numbers: every number with its place and its mark of trust. Fractions stand in percent.
        source:  author, year, table.
        setting: data, model and what was measured.
    """

    table: str
    numbers: tuple[str, ...]
    source: str
    setting: str


def printed(norm: str) -> Iterator[Printed]:
    """The published numbers about a norm, in the order of the tables."""
    for name, table in tables().items():
        for published in table.published:
            if "norm" not in (published.key, published.along):
                continue
            mark = MARKS[published.trust]
            numbers = tuple(
                _said({key: str(value) for key, value in place.items() if key != "norm"}, number) + mark
                for place, number in published.numbers()
                if place["norm"] == norm
            )
            if numbers:
                yield Printed(name, numbers, published.source, published.setting)


def _said(place: dict[str, str], number: float) -> str:
    """A published number with its place. Without a metric the setting says what it is: a fraction up to 1."""
    metric = place.pop("metric", "test_error" if number <= 1 else "")
    words = ", ".join(f"{key} {value}" for key, value in place.items())
    of = "" if metric in ("", "test_error") else metric
    return f"{', '.join(filter(None, [words, of]))}{': ' if words or of else ''}{amount(metric, number)}"


def amount(metric: str, value: float) -> str:
    """A value as text: errors in percent, as tables show them.

    >>> amount("test_error@batch", 0.346), amount("steps_to_0.1", 120.0)
    ('34.6 %', '120')
    """
    return f"{100 * value:.3g} %" if is_share(metric) else f"{value:.4g}"


def is_share(metric: str) -> bool:
    """Whether a metric is a fraction that is shown in percent."""
    return metric.partition("/")[0].partition("@")[0].endswith(("_error", "_ece"))


def claims(norm: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Table and claim for each claim that names the norm in a cell or a set."""
    for name, tree in results().items():
        said = {claim.id: claim for claim in tables()[name].scale(tree["scale"]).claims}
        for claim in tree["claims"]:
            if claim["id"] in said:
                kind = said[claim["id"]]
                places = [*kind.single, *(place for place, _ in kind.sets)]
                if any(str(place.get("norm")) == norm for place in places):
                    yield name, claim
