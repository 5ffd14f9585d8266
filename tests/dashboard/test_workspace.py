"""The workspace as JSON: without a key and without a network, the same text every time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from normbench.dashboard.view import COLOURS, View, check_name, colours_of, grouping
from normbench.dashboard.workspace import workspace_json
from normbench.errors import InputError
from normbench.record import Record

pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is missing: pip install '.[dashboard]'")

GOLDEN = Path(__file__).parents[1] / "golden" / "workspace.json"
VIEW = View(
    name="wu2018/batch_size tiny",
    project="ablations",
    entity="team",
    groups=("bn b2 lenet5 data digits norm.momentum 0.1 01234567",),
    tags=("wu2018/batch_size", "tiny"),
    colours={"bn b2 lenet5": COLOURS[0], "gn b2 lenet5": COLOURS[1]},
)


def test_the_workspace_is_the_golden_file() -> None:
    """Rewrite it with NORMBENCH_GOLDEN=write if the panels change on purpose."""
    text = workspace_json(VIEW)
    if os.environ.get("NORMBENCH_GOLDEN") == "write":
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")
    assert workspace_json(VIEW) == text  # no random id is left


def test_every_value_of_a_filter_arrives_unchanged() -> None:
    """wandb-workspaces doubles `=` in the values of filters, so no value may have one."""
    section = json.loads(workspace_json(VIEW))["spec"]["section"]
    [runs] = section["runSets"]
    found = [(each["key"]["name"], each["op"], each["value"]) for each in runs["filters"]["filters"]]
    assert found == [
        ("jobType", "!=", "summary"),
        ("group", "IN", list(VIEW.groups)),
        ("tags", "IN", ["wu2018/batch_size"]),
        ("tags", "IN", ["tiny"]),
    ]


def test_curves_bars_and_runs_are_grouped_by_the_same_key() -> None:
    for by, panel_key, run_key in (("cell", "cell.value", "cell.value"), ("group", "group", "group")):
        view = View(name="x", project="p", by=by)
        section = json.loads(workspace_json(view))["spec"]["section"]
        panels = [panel for part in section["panelBankConfig"]["sections"] for panel in part["panels"]]
        grouped = [panel["config"].get("groupBy") for panel in panels]
        assert grouped == [panel_key, "norm.value.name", None, panel_key, panel_key]
        assert [key["name"] for key in section["runSets"][0]["grouping"]] == [run_key]


def test_building_opens_no_socket() -> None:
    program = (
        "import socket\n"
        "def refuse(*words, **more): raise AssertionError('a socket was opened')\n"
        "socket.socket.connect = refuse\n"
        "from normbench.dashboard.view import View\n"
        "from normbench.dashboard.workspace import workspace_json\n"
        "print(len(workspace_json(View(name='x', project='p'))))\n"
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=clean)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1000


def records(make_sweep, *words: str) -> list[Record]:
    specs = [resolved.spec for resolved in make_sweep(*words)]
    return [Record(s.signature, s.model_dump(mode="json"), "complete", {}, {}, {}, {}) for s in specs]


def test_cells_of_one_norm_have_one_colour(make_sweep) -> None:
    colours = colours_of(records(make_sweep, "norm=bn,gn", "batch=2,4", "seed=0,1"), "cell")
    assert colours == {
        "bn b2 lenet5": COLOURS[0],
        "bn b4 lenet5": COLOURS[0],
        "gn b2 lenet5": COLOURS[1],
        "gn b4 lenet5": COLOURS[1],
    }


def test_cells_are_the_key_only_if_they_tell_all_configurations_apart(make_sweep) -> None:
    apart = records(make_sweep, "norm=bn,gn", "batch=2,4", "seed=0,1")
    assert grouping(apart) == "cell"
    alike = records(make_sweep, "norm=bn", "optim.lr=0.1,0.2", "seed=0,1")
    assert grouping(alike) == "group"
    assert len(colours_of(alike, "group")) == 2


@pytest.mark.parametrize("name", ["a=b", "lr > 0.1", "🚀", "", " "])
def test_a_name_with_symbols_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(InputError, match="the name of a view must be text without symbols"):
        check_name(name)


def test_a_name_that_is_checked_is_accepted_by_wandb() -> None:
    check_name("wu2018/batch_size, größe · 2 ± 1"[:20])
    assert "normbench wu2018/batch_size" in workspace_json(View(name="wu2018/batch_size, größe", project="p"))
