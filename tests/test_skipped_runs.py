"""Impossible runs that were left out stand in tables as n/a, with the reason."""

from __future__ import annotations

import json

import pytest

from normbench import cli, skipped_runs
from normbench.report.tables import build_table
from normbench.store import Store

WORDS = [
    "model=mlp", "model.hidden=[8]", "data=synthetic", "data.train_size=16", "data.test_size=8",
    "data.channels=1", "data.size=4", "data.classes=2", "steps=2", "tracking=none", "engine.device=cpu",
    "engine.processes=1",
]  # fmt: skip
SWEEP = ["norm=bn,ln_chw", "batch=1,4", "seed=range(2)", "invalid=skip"]


@pytest.fixture
def trained(capsys):
    assert cli.run(["train", *WORDS, *SWEEP]) == 0
    return capsys.readouterr().out


def test_a_cell_without_possible_runs_says_n_a_and_why(trained, capsys):
    for form in ("md", "latex", "rich"):
        assert cli.run(["table", "--rows", "norm", "--cols", "batch", "--format", form]) == 0
        assert "n/a" in capsys.readouterr().out
    assert cli.run(["table", "--rows", "norm", "--cols", "batch", "--format", "json"]) == 0
    table = json.loads(capsys.readouterr().out)
    impossible = {(c["row"], c["col"]): c["impossible"] for c in table["cells"] if "impossible" in c}
    assert impossible.keys() == {("bn", "1")}
    assert "at least 2 values" in impossible["bn", "1"]
    assert any(note.startswith("n/a in bn / 1: ") for note in table["notes"])


def test_conditions_hold_for_impossible_runs_too(trained):
    store = Store.default()
    skipped = skipped_runs.read(store.root)
    assert {run.spec["norm"]["name"] for run in skipped} == {"bn"}
    table = build_table(store.records(), "norm", "batch", "test_error", "batch=4", skipped=skipped)
    assert all(not cell.impossible for cell in table.cells.values())


def test_a_run_that_is_possible_today_takes_the_place_of_n_a(trained):
    store = Store.default()
    [run, *_] = skipped_runs.read(store.root)
    skipped_runs.keep(store.root, {**run.spec, "batch": 4}, "it was impossible once")
    table = build_table(store.records(), "norm", "batch", "test_error", skipped=skipped_runs.read(store.root))
    assert table.cells["bn", "4"].impossible == ""


def test_damaged_files_are_passed_over(trained):
    root = Store.default().root
    before = skipped_runs.read(root)
    (root / "skipped" / "0.json").write_text("{", encoding="utf-8")
    (root / "skipped" / "1.json").write_text("[1]", encoding="utf-8")
    assert skipped_runs.read(root) == before
