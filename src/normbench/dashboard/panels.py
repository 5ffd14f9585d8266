"""The panels, the same in a workspace and in a report."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from normbench.dashboard.view import View

#: Runs per panel; wandb shows 10 by default.
MOST_RUNS = 1000
#: Columns of the table of runs, in the words of wandb. Nested keys have `value` after their first part.
COLUMNS = (
    "run:displayName", "config:norm.value.name", "config:batch.value", "config:norm.value.momentum",
    "config:placement.value.name", "config:seed.value",
)  # fmt: skip
#: Width and height of a panel, on a grid of 24 columns.
_WIDE, _NARROW, _HIGH = 24, 12, 10


def panels(view: View) -> list[tuple[str, list[Any]]]:
    """The panels by section.

    Bands and error bars are one standard deviation over the runs of a cell. wandb's `stderr` is no 95 %
    interval, so it is not used.
    """
    wr = import_module("wandb_workspaces.reports.v2")
    metric = view.metric
    by = wr.Config("cell") if view.by == "cell" else wr.Metric("Group")
    per_cell = {"groupby": by, "groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
    bars = {**per_cell, "max_runs_to_show": MOST_RUNS, "max_bars_to_show": 100, "orientation": "h"}
    curve = wr.LinePlot(
        title=f"{metric} on the curve: mean, band = 1 sd over seeds",
        x="images_seen",
        y=[metric],
        max_runs_to_show=MOST_RUNS,
        smoothing_type="none",
        layout=wr.Layout(x=0, y=0, w=_WIDE, h=_HIGH),
        **per_cell,
    )
    final = [
        violins(f"{metric} at the end, by norm", metric, x=0, y=10),
        wr.ScatterPlot(
            title=f"{metric} against images per statistic",
            x=wr.Config("batch"),
            y=wr.SummaryMetric(metric),
            log_x=True,
            layout=wr.Layout(x=_NARROW, y=10, w=_NARROW, h=_HIGH),
        ),
    ]
    cost = [
        wr.BarPlot(
            title="What running statistics cost: test_error - test_error_batch, mean and sd",
            metrics=["statistics_cost"],
            layout=wr.Layout(x=0, y=20, w=_NARROW, h=_HIGH),
            **bars,
        ),
        wr.BarPlot(
            title="Seconds of training per run: mean and sd",
            metrics=["train_s"],
            layout=wr.Layout(x=_NARROW, y=20, w=_NARROW, h=_HIGH),
            **bars,
        ),
    ]
    return [("Curves", [curve]), ("Final numbers", final), ("Cost", cost)]


def violins(title: str, metric: str, *, x: int, y: int) -> Any:
    """A violin per norm over all its runs.

    The server draws violins (`plotStyle`), but wandb-workspaces 0.4.13 has no argument for it. So the panel
    is given in the server's own words.
    """
    interface = import_module("wandb_workspaces.reports.v2.interface")
    return interface.UnknownPanel(
        viewType="Bar Chart",
        __id__=interface.internal._generate_name(),
        layout={"x": x, "y": y, "w": _NARROW, "h": _HIGH},
        config={
            "chartTitle": title,
            "metrics": [metric],
            "plotStyle": "violin",
            "vertical": True,
            "groupBy": "norm.value.name",
            "aggregate": True,
            "limit": MOST_RUNS,
        },
    )


def run_filter(view: View) -> Any:
    """Which runs are shown. Filters on nested keys are avoided: the server may read them in another way."""
    expr = import_module("wandb_workspaces.expr")
    found = [expr.Metric("JobType") != "summary"]
    if view.groups:
        found.append(expr.Metric("Group").isin(list(view.groups)))
    found += [expr.Tags().isin([tag]) for tag in view.tags]
    return expr.And(*found)
