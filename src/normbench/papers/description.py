"""The description of a paper table, as a strict value: what its file must say, and what must agree in it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from normbench.errors import unknown
from normbench.spec import Part

Scalar = bool | int | float | str | None
#: A cell, or a set of cells, by the values of row and column keys.
Place = dict[str, Scalar]


class Published(Part):
    """Numbers of a paper, laid out as the paper lays them out: one list per value of `key`, along `along`."""

    id: str
    source: str  # author, year, table or figure
    read: Literal["text", "figure"]  # as printed, or by eye off a figure
    setting: str  # data, model and what was measured
    key: str
    along: str
    at: Annotated[tuple[Scalar, ...], Field(min_length=1, strict=False)]
    values: dict[str, Annotated[tuple[float | None, ...], Field(strict=False)]]

    @model_validator(mode="after")
    def _complete(self) -> Published:
        for name, numbers in self.values.items():
            if len(numbers) != len(self.at):
                raise ValueError(f"{self.id}: {name} has {len(numbers)} numbers for {len(self.at)} places")
        return self

    def numbers(self) -> list[tuple[Place, float]]:
        """Every number with its place."""
        return [
            ({self.key: name, self.along: at}, number)
            for name, numbers in self.values.items()
            for at, number in zip(self.at, numbers, strict=True)
            if number is not None
        ]


class Beside(Part):
    """Which published numbers stand beside ours, and in which part of the table."""

    id: str
    where: Place = Field(default_factory=dict)


class _Claim(Part):
    """What every kind of claim says; `assert: false` claims are reported and fail nothing."""

    id: str
    text: str
    asserted: bool = Field(alias="assert")
    margin: float


class Greater(_Claim):
    """mean(a) − mean(b) ≥ margin, for two cells."""

    kind: Literal["greater"]
    a: Place
    b: Place

    @property
    def places(self) -> tuple[Place, ...]:
        return (self.a, self.b)

    def fits(self, axes: set[str]) -> bool:
        return self.a.keys() == axes == self.b.keys()


class Spread(_Claim):
    """Over the cells of `where`, the largest mean minus the smallest ≤ margin."""

    kind: Literal["spread"]
    where: Place

    @property
    def places(self) -> tuple[Place, ...]:
        return (self.where,)

    def fits(self, axes: set[str]) -> bool:
        return self.where.keys() < axes


Claim = Annotated[Greater | Spread, Field(discriminator="kind")]


class Scale(Part):
    """One size at which a table can be rerun; `grids` are products of override words, united."""

    setting: str  # words: data, model, and what differs from the paper
    minutes: dict[str, float] | None  # measured, by class of hardware
    rows: Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
    cols: Annotated[tuple[str, ...], Field(strict=False)]
    published: Annotated[tuple[Beside, ...], Field(strict=False)]
    grids: Annotated[
        tuple[dict[str, Scalar | Annotated[tuple[Scalar, ...], Field(strict=False, min_length=1)]], ...],
        Field(min_length=1, strict=False),
    ]
    claims: Annotated[tuple[Claim, ...], Field(strict=False)]

    @model_validator(mode="after")
    def _consistent(self) -> Scale:
        axes = {*self.rows, *self.cols}
        for grid in self.grids:
            if missing := axes - grid.keys():
                raise ValueError(f"a grid lacks the row or column key {', '.join(sorted(missing))}")
        ids = [claim.id for claim in self.claims]
        if len(set(ids)) < len(ids):
            raise ValueError("two claims have the same id")
        for claim in self.claims:
            if not claim.fits(axes):
                raise ValueError(f"claim {claim.id} does not name its cells by {', '.join(sorted(axes))}")
        return self


class PaperTable(Part):
    """A published table and how to rerun it."""

    name: str  # <citekey>/<table>
    title: str
    citation: str
    question: str
    metric: str
    published: Annotated[tuple[Published, ...], Field(strict=False)]
    scales: dict[str, Scale]

    @model_validator(mode="after")
    def _published_known(self) -> PaperTable:
        sources = {published.id: published for published in self.published}
        for name, scale in self.scales.items():
            for beside in scale.published:
                if beside.id not in sources:
                    raise ValueError(f"scale {name}: no published numbers are called {beside.id}")
                used = {sources[beside.id].key, sources[beside.id].along, *beside.where}
                if not used <= {*scale.rows, *scale.cols}:
                    raise ValueError(f"scale {name}: {beside.id} needs the axes {', '.join(sorted(used))}")
        return self

    def scale(self, name: str) -> Scale:
        """One of the scales.

        Raises:
            InputError: the table has no such scale.
        """
        if name not in self.scales:
            raise unknown(f"scale of {self.name}", name, self.scales)
        return self.scales[name]
