"""A report of wandb: our table and verdicts as Markdown, and the panels below them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from normbench.dashboard.account import entity_of_key, one_line
from normbench.dashboard.panels import MOST_RUNS, panels, run_filter
from normbench.dashboard.view import View


def push_report(view: View, texts: Sequence[str]) -> str:
    """Make a report and return its address.

    The report is built here and not before, because its constructor logs in.

    Args:
        texts: blocks of Markdown that stand before the panels.

    Raises:
        RunFailure: wandb did not save it.
    """
    with one_line("report"):
        wr = import_module("wandb_workspaces.reports.v2")
        entity = view.entity or entity_of_key()
        runs = wr.Runset(
            entity=entity,
            project=view.project,
            name=view.name,
            filters=run_filter(view),
            groupby=["config.cell" if view.by == "cell" else "group"],
        )
        grid = wr.PanelGrid(runsets=[runs], panels=[panel for _, some in panels(view) for panel in some])
        blocks = [*(wr.MarkdownBlock(text) for text in texts), grid]
        report = wr.Report(
            project=view.project,
            entity=entity,
            title=view.title,
            description=f"Bands: 1 sd over seeds. Up to {MOST_RUNS} runs per panel.",
            blocks=blocks,
            width="fluid",
        )
        return str(report.save().url)
