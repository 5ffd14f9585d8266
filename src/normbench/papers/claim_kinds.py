"""The kinds of claims that a table may make, as strict values. `judges` decides them.

    greater           a − b ≥ margin
    ratio             a ≥ factor × b, compared on a log scale
    flat              all cells of a set differ by at most margin
    rises             along a key, the metric rises by at least margin
    interior_minimum  along a key, some inner value lies at least margin below both ends
    best, worst       one cell is ahead of (behind) every other cell of a set by at least margin
    diverges          at least a share of the runs of a set diverges

A cell is named by one value for each row and column key, a set by some of them. A claim may name another
metric than the table's first one; a cell may do so too, by the key `metric`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from normbench.papers.metric_names import MetricName, check
from normbench.papers.places import Place, Scalar, Texts, matching
from normbench.report.axes import METRIC
from normbench.spec import Part

Share = Annotated[float, Field(gt=0, le=1)]
_Metrics = Annotated[tuple[MetricName, ...], Field(strict=False, min_length=1)]


class ClaimBase(Part):
    """What every kind of claim says.

    asserted:  written `assert`; a claim with `assert: false` is reported and fails nothing.
    reason:    why the margin is what it is.
    metric:    a metric, or several whose mean per run is compared; by default the first of the table.
    test:      `t` for the paired t-test, `permutation` for the exact sign-flip test.
    diverged:  how a diverged run counts. fails: there is no verdict. chance: its error is `chance`.
               diverges: it is behind every other run, and pairs are compared by the exact sign test.
    unreached: how a run counts that never met the target of `steps_to_…`. fails: there is no verdict.
               length: its value is the number of its steps, which is a lower bound.
    """

    id: str
    text: str
    asserted: bool = Field(default=True, alias="assert")
    reason: str = ""
    metric: MetricName | _Metrics | None = None
    test: Literal["t", "permutation"] = "t"
    diverged: Literal["fails", "chance", "diverges"] = "fails"
    chance: Share = 0.9
    unreached: Literal["fails", "length"] = "fails"

    @property
    def single(self) -> tuple[Place, ...]:
        """The cells that it names one by one."""
        return ()

    @property
    def sets(self) -> tuple[tuple[Place, int], ...]:
        """The sets of cells that it names, each with the smallest size that makes sense."""
        return ()

    @property
    def order(self) -> str | None:
        """The key whose values order each of its sets, if one does."""
        return None

    def check(self, keys: Sequence[str], places: Sequence[Texts]) -> None:
        """Refuse a claim that does not name cells of the table.

        Args:
            keys:   row and column keys, without `metric`.
            places: all cells of the grids.

        Raises:
            ValueError: what is wrong, in one line.
        """
        wanted = f"claim {self.id} does not name its cells by {', '.join(sorted(keys)) or METRIC}"
        for place in self.single:
            if place.keys() - {METRIC} != {*keys}:
                raise ValueError(wanted)
            if not list(matching(places, place)):
                raise ValueError(f"claim {self.id} names a cell outside the grid: {_words(place)}")
        for place, least in self.sets:
            rest = {*keys} - {self.order} if self.order else {*place} - {METRIC}
            if place.keys() - {METRIC} != rest or not rest <= {*keys} or self.order not in (None, *keys):
                along = f" and by values of {self.order}" if self.order else ""
                raise ValueError(f"{wanted}{along}")
            if (found := len(list(matching(places, place)))) < least:
                named = _words(place) or "the whole table"
                raise ValueError(f"claim {self.id} needs {least} cells of the grid; {named} has {found}")
        for place in (*self.single, *(place for place, _ in self.sets)):
            if METRIC in place:
                check(str(place[METRIC]))


class Greater(ClaimBase):
    """mean(a) − mean(b) ≥ margin, for two cells."""

    kind: Literal["greater"]
    a: Place
    b: Place
    margin: float

    @property
    def single(self) -> tuple[Place, ...]:
        return (self.a, self.b)


class Largest(Part):
    """The largest value of the key `along` at which the metric of a run is at most `below`."""

    along: str
    below: float


class Ratio(ClaimBase):
    """a ≥ factor × b, as geometric means, for two cells.

    With `largest`, a and b are rows of cells, and what is compared is a value of the key `largest.along`,
    such as the largest learning rate at which a run still ends below an error.
    """

    kind: Literal["ratio"]
    a: Place
    b: Place
    factor: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    largest: Largest | None = None

    @property
    def single(self) -> tuple[Place, ...]:
        return () if self.largest else (self.a, self.b)

    @property
    def sets(self) -> tuple[tuple[Place, int], ...]:
        return ((self.a, 2), (self.b, 2)) if self.largest else ()

    @property
    def order(self) -> str | None:
        return self.largest.along if self.largest else None


class Flat(ClaimBase):
    """Over the cells of `where`, any two means differ by at most margin."""

    kind: Literal["flat"]
    where: Place
    margin: Annotated[float, Field(gt=0)]

    @property
    def sets(self) -> tuple[tuple[Place, int], ...]:
        return ((self.where, 2),)


class _Along(ClaimBase):
    """A claim on the cells of `where` in the order of the key `along`: that of the file, or `values`."""

    where: Place = Field(default_factory=dict)
    along: str
    values: Annotated[tuple[Scalar, ...], Field(strict=False, min_length=3)] | None = None
    margin: float = 0.0

    @property
    def sets(self) -> tuple[tuple[Place, int], ...]:
        return ((self.where, 3),)

    @property
    def order(self) -> str:
        return self.along

    def check(self, keys: Sequence[str], places: Sequence[Texts]) -> None:
        super().check(keys, places)
        for value in self.values or ():
            if not list(matching(places, {**self.where, self.along: value})):
                raise ValueError(f"claim {self.id} names a cell outside the grid: {self.along}={value}")


class Rises(_Along):
    """The metric rises along a key: by trend, and by at least margin from the first to the last cell."""

    kind: Literal["rises"]


class InteriorMinimum(_Along):
    """Some inner value of the key has a mean at least margin below the means of both ends."""

    kind: Literal["interior_minimum"]


class _Extreme(ClaimBase):
    """A claim on one cell against every other cell of `among`; by default against all cells."""

    cell: Place
    among: Place = Field(default_factory=dict)
    margin: float = 0.0
    #: Which is better; by default as the metric says.
    better: Literal["less", "more"] | None = None

    @property
    def single(self) -> tuple[Place, ...]:
        return (self.cell,)

    @property
    def sets(self) -> tuple[tuple[Place, int], ...]:
        return ((self.among, 2),)


class Best(_Extreme):
    """The cell is better than every other by at least margin. A negative margin allows it to be worse."""

    kind: Literal["best"]


class Worst(_Extreme):
    """The cell is worse than every other by at least margin."""

    kind: Literal["worst"]


class Diverges(ClaimBase):
    """At least `share` of the runs of `where` diverges."""

    kind: Literal["diverges"]
    where: Place
    share: Share = 0.5

    @property
    def sets(self) -> tuple[tuple[Place, int], ...]:
        return ((self.where, 1),)

    @model_validator(mode="after")
    def _share_below_one(self) -> Diverges:
        if self.share == 1:
            raise ValueError(f"claim {self.id}: no number of runs proves that all diverge; give a share < 1")
        return self


Claim = Annotated[
    Greater | Ratio | Flat | Rises | InteriorMinimum | Best | Worst | Diverges, Field(discriminator="kind")
]


def _words(place: Place) -> str:
    return " ".join(f"{key}={value}" for key, value in place.items())
