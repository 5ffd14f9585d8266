"""A workspace of wandb: built without a network, written as JSON or saved as a new view."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from importlib import import_module
from typing import Any

from normbench.dashboard.account import entity_of_key, one_line
from normbench.dashboard.panels import COLUMNS, MOST_RUNS, panels, run_filter
from normbench.dashboard.view import View
from normbench.errors import InputError, reason


def build(view: View) -> Any:
    """The workspace as an object of wandb-workspaces. No key and no network are needed.

    Raises:
        InputError: a name that wandb refuses.
    """
    ws = import_module("wandb_workspaces.workspaces")
    expr = import_module("wandb_workspaces.expr")
    try:
        return ws.Workspace(
            entity=view.entity,
            project=view.project,
            name=view.title,
            sections=[
                ws.Section(name=name, panels=some, is_open=True, pinned=True) for name, some in panels(view)
            ],
            settings=ws.WorkspaceSettings(
                x_axis="images_seen",
                max_runs=MOST_RUNS,
                smoothing_type="none",
                point_visualization_method="bucketing",  # keeps the lowest and the highest point
            ),
            runset_settings=ws.RunsetSettings(
                filters=run_filter(view),
                groupby=[expr.Config("cell") if view.by == "cell" else expr.Metric("Group")],
                group_colors=dict(view.colours),
                pinned_columns=[*COLUMNS, f"summary:{view.metric}"],
            ),
        )
    except ValueError as error:
        details = getattr(error, "errors", None)
        why = f"{details()[0]['loc'][-1]}: {details()[0]['msg']}" if callable(details) else reason(error)
        raise InputError(f"wandb does not accept the view '{view.title}': {why}") from None


def workspace_json(view: View) -> str:
    """The specification of the workspace as indented JSON; the same text for the same view.

    Raises:
        InputError: a name that wandb refuses.
    """
    return _numbered(_specification(build(view)))


def push_workspace(view: View) -> str:
    """Save the workspace as a new view; no view of the user is replaced. Return its address.

    Raises:
        InputError: a name that wandb refuses.
        RunFailure: wandb did not save it.
    """
    with one_line("view"):
        entity = view.entity or entity_of_key()
        return str(build(replace(view, entity=entity)).save_as_new_view().url)


def _specification(workspace: Any) -> str:
    """The JSON of a workspace. The one use of wandb-workspaces' private interface to workspaces."""
    model = workspace._to_model()
    return str(model.model_dump_json(by_alias=True, exclude_none=True))


def _numbered(text: str) -> str:
    """Indented JSON in which random ids are replaced by numbers."""
    tree = json.loads(text)
    [runs] = tree["spec"]["section"]["runSets"]
    shown = [
        panel for part in tree["spec"]["section"]["panelBankConfig"]["sections"] for panel in part["panels"]
    ]
    ids = [*(panel["__id__"] for panel in shown), runs["id"]]
    numbers = {given: f"normbench{place}" for place, given in enumerate(ids) if given}
    found = json.dumps(tree, indent=2, ensure_ascii=False)
    return re.sub("|".join(numbers), lambda match: numbers[match[0]], found) + "\n"
