"""The description of a table, as a strict value: what its file must say, and what must agree in it.

`docs/tables.md` shows every field with an example.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from normbench.errors import unknown
from normbench.papers.claim_kinds import Claim
from normbench.papers.figures import Figure
from normbench.papers.metric_names import MetricName
from normbench.papers.places import ARM, Grid, cells, words
from normbench.papers.published import Beside, Published
from normbench.report.axes import METRIC
from normbench.spec import Part

ScaleName = Literal["tiny", "small", "full"]
_Names = Annotated[tuple[str, ...], Field(strict=False)]
_Metrics = Annotated[tuple[MetricName, ...], Field(strict=False, min_length=1)]


class Expects(Part):
    """What a scale costs: the number of runs, and the minutes that were measured on some hardware."""

    runs: Annotated[int, Field(ge=1)]
    minutes: Annotated[float, Field(gt=0)] | None = None
    hardware: str = ""


class Scale(Part):
    """One size at which a table can be rerun; `grids` are products of override words, united.

    setting:   words: data, model, and what differs from the paper.
    rows,
    cols:      keys: override keys, `metric` (one line per metric of the table), `arm` (the name of a grid).
    metrics:   in place of the table's.
    needs:     data sets that may be absent; without them, their cells are n/a.
    published: which published numbers stand beside ours.
    """

    rows: Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
    cols: _Names = ()
    grids: Annotated[tuple[Grid, ...], Field(min_length=1, strict=False)]
    setting: str = ""
    expects: Expects | None = None
    needs: _Names = ()
    metrics: _Metrics | None = None
    published: Annotated[tuple[Beside, ...], Field(strict=False)] = ()
    claims: Annotated[tuple[Claim, ...], Field(strict=False)] = ()

    @property
    def axes(self) -> tuple[str, ...]:
        """Row and column keys."""
        return (*self.rows, *self.cols)

    @property
    def keys(self) -> tuple[str, ...]:
        """Row and column keys that tell runs apart: all but `metric`."""
        return tuple(key for key in self.axes if key != METRIC)

    @property
    def places(self) -> list[dict[str, str]]:
        """All cells of the grids, by `keys`; a cell has one line per metric if `metric` is a key."""
        written = ({key: words(values) for key, values in grid.items()} for grid in self.grids)
        return cells(written, self.keys)

    @model_validator(mode="after")
    def _consistent(self) -> Scale:
        if len(set(self.axes)) < len(self.axes):
            raise ValueError("a key is both a row and a column key, or occurs twice")
        for grid in self.grids:
            if missing := {*self.keys} - grid.keys():
                raise ValueError(f"a grid lacks the row or column key {', '.join(sorted(missing))}")
            if METRIC in grid:
                raise ValueError("metric is no word of a grid; name metrics under metrics")
            if not all(isinstance(seed, int) and seed >= 0 for seed in _listed(grid.get("seed", 0))):
                raise ValueError("seed lists whole numbers, as in seed: [0, 1, 2]")
            if ARM in grid and (ARM not in self.keys or not isinstance(grid[ARM], str)):
                raise ValueError("arm names the runs of one grid: one text, and arm is a row or column key")
        used = {text for grid in self.grids for text in words(grid.get("data", ()))}
        if strays := {*self.needs} - used:
            raise ValueError(f"needs: no grid uses data={', '.join(sorted(strays))}")
        ids = [claim.id for claim in self.claims]
        if len(set(ids)) < len(ids):
            raise ValueError("two claims have the same id")
        for claim in self.claims:
            claim.check(self.keys, self.places)
        return self


def _listed(values: object) -> tuple[object, ...]:
    return values if isinstance(values, tuple) else (values,)


def _later(grid: Grid, offset: int) -> Grid:
    seeds = (int(str(seed)) + offset for seed in _listed(grid.get("seed", 0)))
    return {**grid, "seed": tuple(seeds)}


class PaperTable(Part):
    """A table of a paper, or of one's own, and how to rerun it."""

    name: str  # <citekey>/<table>
    file: str = ""  # the path of its file, if that is how it was found
    title: str
    citation: str = ""
    question: str = ""
    metrics: _Metrics = ("test_error",)
    published: Annotated[tuple[Published, ...], Field(strict=False)] = ()
    figures: Annotated[tuple[Figure, ...], Field(strict=False)] = ()
    scales: Annotated[dict[ScaleName, Scale], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _one_metric(cls, tree: Any) -> Any:
        """`metric: m` is short for `metrics: [m]`."""
        if isinstance(tree, dict) and "metric" in tree:
            if "metrics" in tree:
                raise ValueError("give metric or metrics, not both")
            tree = {"metrics" if key == "metric" else key: value for key, value in tree.items()}
            tree["metrics"] = [tree["metrics"]]
        return tree

    @model_validator(mode="after")
    def _consistent(self) -> PaperTable:
        sources = {published.id: published for published in self.published}
        for known, kind in ((self.published, "published"), (self.figures, "figures")):
            if len({each.id for each in known}) < len(known):
                raise ValueError(f"{kind}: two entries have the same id")
        for name, scale in self.scales.items():
            self._check_metrics(name, scale)
            for beside in scale.published:
                if beside.id not in sources:
                    raise ValueError(f"scale {name}: no published numbers are called {beside.id}")
                used = {*sources[beside.id].keys, *beside.where}
                if not used <= {*scale.axes}:
                    raise ValueError(f"scale {name}: {beside.id} needs the axes {', '.join(sorted(used))}")
            for figure in self.figures:
                if not figure.scales or name in figure.scales:
                    figure.check({*scale.axes}, self.metrics_at(name))
        for figure in self.figures:
            if strays := {*figure.scales} - self.scales.keys():
                raise ValueError(f"figure {figure.id}: there is no scale {', '.join(sorted(strays))}")
        return self

    def _check_metrics(self, name: str, scale: Scale) -> None:
        metrics = self.metrics_at(name)
        if len(metrics) > 1 and METRIC not in scale.axes:
            raise ValueError(
                f"scale {name}: the table has {len(metrics)} metrics; make metric a row or column key"
            )

    @property
    def given_as(self) -> str:
        """What a command line calls it."""
        return self.file or self.name

    def scale(self, name: str) -> Scale:
        """One of the scales.

        Raises:
            InputError: the table has no such scale.
        """
        if name not in self.scales:
            raise unknown(f"scale of {self.name}", name, self.scales)
        return self.scales[name]

    def with_later_seeds(self, offset: int) -> PaperTable:
        """The same table with a number added to every seed; a grid without seeds has seed 0."""
        scales = {
            name: scale.model_copy(update={"grids": tuple(_later(grid, offset) for grid in scale.grids)})
            for name, scale in self.scales.items()
        }
        return self.model_copy(update={"scales": scales})

    def metrics_at(self, scale: str) -> tuple[str, ...]:
        """The metrics that the table shows at a scale. Claims are about the first by default."""
        return self.scale(scale).metrics or self.metrics
