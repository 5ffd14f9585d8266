"""`table --select` from the command line, on runs that were trained."""

from __future__ import annotations

import json

import pytest

from normbench import cli

QUICK = ["train", "model=mlp", "model.hidden=[8]", "steps=10", "norm=bn,gn", "seed=range(2)", "tracking=none"]


@pytest.fixture
def tuned(capsys):
    assert cli.run([*QUICK, "data.valid=0.1", "optim.lr=0.001,0.2,1.0"]) == 0
    capsys.readouterr()


def test_a_tuned_comparison_is_two_commands(tuned, capsys):
    assert cli.run(["table", "--select", "optim.lr", "--format", "json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["select"] == {"keys": ["optim.lr"], "metric": "valid_error"}
    assert [cell["n"] for cell in tree["cells"]] == [2, 2]
    assert all(cell["tried"] == 3 and cell["picked"]["optim.lr"] > 0.001 for cell in tree["cells"])
    assert cli.run(["table", "--select", "optim.lr"]) == 0
    assert "Picked per cell by the mean valid_error over seeds" in capsys.readouterr().out
    assert cli.run(["table", "--select", "optim.lr", "--runs", "--format", "csv"]) == 0
    assert capsys.readouterr().out.count("\n") == 5


def test_without_validation_metrics_nothing_is_picked(capsys, tmp_path):
    assert cli.run([*QUICK, "optim.lr=0.1,0.2"]) == 0
    capsys.readouterr()
    file = tmp_path / "table.md"
    assert cli.run(["table", "--select", "optim.lr", "--out", str(file)]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "--select picks by valid_error, which no run has; train with data.valid=0.1" in said.err
    assert not file.exists()


@pytest.mark.parametrize("share", ["0.0001", "0.9999"])
def test_an_empty_validation_split_is_refused_and_nothing_is_written(share, capsys, tmp_path):
    assert cli.run(["train", f"data.valid={share}", "tracking=none"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "results").exists()
