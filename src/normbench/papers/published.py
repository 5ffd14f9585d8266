"""Published numbers: what a paper printed, where, and how far the number can be trusted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from normbench.papers.places import Place, Scalar
from normbench.spec import Part

#: How a number came here, and the words that tables print for it.
TRUST = {
    "read": "as printed",
    "figure": "read by eye off the figure",
    "computed": "computed from the published result files",
    "memory": "from memory, not read again",
    "weak": "from weak memory: do not quote",
}
#: Marks behind a number that is not as printed. A number is never shown without its mark.
MARKS = {"read": "", "figure": "~", "computed": "", "memory": "(m)", "weak": "(?)"}

_Numbers = Annotated[tuple[float | None, ...], Field(strict=False)]


class Published(Part):
    """Numbers of a paper, laid out as the paper lays them out.

    `values` has one number per value of `key`, or one list with a number per place in `at`, along the key
    `along`. A number that the paper does not give is null.
    """

    id: str
    source: str  # author, year, table or figure, page
    trust: Literal["read", "figure", "computed", "memory", "weak"]
    setting: str  # data, model and what was measured
    key: str
    along: str | None = None
    at: Annotated[tuple[Scalar, ...], Field(min_length=1, strict=False)] | None = None
    values: Annotated[dict[str, float | _Numbers], Field(min_length=1)]

    @model_validator(mode="after")
    def _complete(self) -> Published:
        if (self.along is None) != (self.at is None):
            raise ValueError(f"{self.id}: give both along and at, or neither")
        places = 1 if self.at is None else len(self.at)
        for name, numbers in self.values.items():
            count = len(numbers) if isinstance(numbers, tuple) else 1
            if count != places:
                raise ValueError(f"{self.id}: {name} has {count} numbers for {places} places")
        return self

    @property
    def keys(self) -> set[str]:
        """The row and column keys that its numbers need."""
        return {self.key, *filter(None, [self.along])}

    def numbers(self) -> list[tuple[Place, float]]:
        """Every number with its place."""
        found: list[tuple[Place, float]] = []
        for name, given in self.values.items():
            listed = given if isinstance(given, tuple) else (given,)
            for at, number in zip(self.at or (None,), listed, strict=True):
                along: Place = {} if self.along is None else {self.along: at}
                if number is not None:
                    found.append(({self.key: name, **along}, number))
        return found


class Beside(Part):
    """Which published numbers stand beside ours, and in which part of the table."""

    id: str
    where: Place = Field(default_factory=dict)
