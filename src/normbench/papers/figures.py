"""The description of a figure of a table: what is drawn, along which keys. Nothing is drawn here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from normbench.papers.metric_names import MetricName
from normbench.papers.places import Place
from normbench.report.axes import METRIC
from normbench.spec import Part

#: Kinds of figures, with the keys that each needs.
#: curve: metric against a key, one line and sd band per hue · training: metric against steps, the same ·
#: bars: metric per value of x, grouped by hue · heat: metric over x and y · band: smallest to largest metric
#: over the values of `over`, against steps · reliability: accuracy against confidence ·
#: percentiles: of the input of a unit against steps.
NEEDS: dict[str, tuple[str, ...]] = {
    "curve": ("x",),
    "training": (),
    "bars": ("x",),
    "heat": ("x", "y"),
    "band": ("over",),
    "reliability": (),
    "percentiles": (),
}


class Figure(Part):
    """One figure. Keys are row or column keys of the table; `metric` is one if the table shows several.

    metric:    what is drawn; by default the first metric of the table.
    where:     the part of the table that is drawn.
    panel:     a key; one panel per value.
    log:       axes with a logarithmic scale.
    published: draw the published numbers of the table too.
    scales:    the scales that have the figure; by default all.
    """

    id: str
    kind: Literal["curve", "training", "bars", "heat", "band", "reliability", "percentiles"]
    title: str = ""
    x: str | None = None
    y: str | None = None
    hue: str | None = None
    over: str | None = None
    panel: str | None = None
    metric: MetricName | None = None
    where: Place = Field(default_factory=dict)
    log: Annotated[tuple[Literal["x", "y", "color"], ...], Field(strict=False)] = ()
    published: bool = False
    scales: Annotated[tuple[str, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _complete(self) -> Figure:
        given = {name for name in ("x", "y", "over") if getattr(self, name) is not None}
        needed = set(NEEDS[self.kind])
        if given != needed:
            listed = ", ".join(sorted(needed)) or "no x, y or over"
            raise ValueError(f"figure {self.id}: a figure of kind {self.kind} takes {listed}")
        keys = [key for key in (self.x, self.y, self.hue, self.over, self.panel) if key is not None]
        if len(set(keys)) < len(keys):
            raise ValueError(f"figure {self.id}: a key has two roles")
        return self

    @property
    def keys(self) -> set[str]:
        """The row and column keys that it needs."""
        given = {self.x, self.y, self.hue, self.over, self.panel, *self.where}
        return {key for key in given if key is not None}

    def check(self, axes: set[str], metrics: tuple[str, ...]) -> None:
        """Raise ValueError if the table lacks a key of the figure."""
        known = axes | ({METRIC} if len(metrics) > 1 else set())
        if missing := self.keys - known:
            raise ValueError(f"figure {self.id}: {', '.join(sorted(missing))} is no row or column key")
