"""Words of `train` after a reading verb name exactly the runs of that sweep, and train nothing."""

from __future__ import annotations

import csv
import io
import json
import shlex
from pathlib import Path

import pytest

from normbench import cli

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def two_sweeps(trainer, capsys: Capture):
    """Runs of two lengths, which a table without words would pool."""
    assert cli.run(["train", "norm=gn,bn", "batch=2,4", "seed=range(2)", "epochs=3"]) == 0
    assert cli.run(["train", "norm=gn,bn", "batch=2,4", "seed=range(2)", "epochs=5"]) == 0
    capsys.readouterr()
    return trainer


def said(capsys: Capture, *argv: str) -> str:
    assert cli.run(argv) == 0
    return capsys.readouterr().out


def test_words_show_the_runs_of_one_sweep_and_train_nothing(two_sweeps, capsys: Capture) -> None:
    before = len(two_sweeps.trained)
    pooled = json.loads(said(capsys, "table", "--format", "json"))
    assert {cell["n"] for cell in pooled["cells"]} == {4}
    assert any("pool runs that differ in epochs (3, 5)" in line for line in pooled["warnings"])
    words = ["norm=gn,bn", "batch=2,4", "seed=range(2)", "epochs=3"]
    tree = json.loads(said(capsys, "table", *words, "--format", "json"))
    asked = {spec.signature for spec in two_sweeps.trained if spec.epochs == 3}
    assert {run for cell in tree["cells"] for run in cell["runs"]} == asked
    assert tree["warnings"] == []
    assert len(two_sweeps.trained) == before


@pytest.mark.parametrize("order", ["gn,bn", "bn,gn"])
def test_rows_stand_in_the_order_of_the_words(order: str, two_sweeps, capsys: Capture) -> None:
    tree = json.loads(said(capsys, "table", f"norm={order}", "batch=2", "epochs=3", "--format", "json"))
    assert [cell["row"] for cell in tree["cells"]] == order.split(",")


@pytest.mark.parametrize(
    "words",
    [
        ["norm=glob(l*c*)", "batch=choice(2,4)", "seed=range(0,2)", "epochs=3"],
        ["epochs=3", "norm=gn,bn", "batch=4,2", "seed=1,0", "-m"],
    ],
)
def test_the_line_that_train_prints_shows_its_runs_whatever_the_form_of_the_words(
    words: list[str], trainer, capsys: Capture
) -> None:
    said(capsys, "train", "batch=2,4", "epochs=9")
    asked = {spec.signature for spec in trainer.trained}
    out = said(capsys, "train", *words)
    asked = {spec.signature for spec in trainer.trained} - asked
    [line] = [line for line in out.splitlines() if line.startswith("table ")]
    verb = shlex.split(line.removeprefix("table"))
    assert verb[:2] == ["normbench", "table"]
    tree = json.loads(said(capsys, *verb[1:], "--format", "json"))
    assert {run for cell in tree["cells"] for run in cell["runs"]} == asked
    assert asked


def test_a_sweep_in_a_file_of_the_users_own_is_named_by_its_words(
    trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "mine" / "ablation").mkdir(parents=True)
    text = "# @package _global_\nbatch: 7\nhydra: {sweeper: {params: {seed: 'range(2)'}}}\n"
    (tmp_path / "mine" / "ablation" / "a.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    out = said(capsys, "train", "+ablation=a", "--config-dir", "mine")
    assert "table    normbench table +ablation=a --config-dir mine --rows norm --cols batch\n" in out
    argv = ["table", "+ablation=a", "--config-dir", "mine", "--format", "json"]
    [cell] = json.loads(said(capsys, *argv))["cells"]
    assert (cell["col"], cell["n"]) == ("7", 2)


def test_words_that_do_not_name_the_runs_alone_are_left_out(trainer, capsys: Capture) -> None:
    out = said(capsys, "train", "batch=2", "hydra/launcher=basic")
    assert "table    normbench table --rows norm --cols batch\n" in out


def test_missing_runs_are_counted_and_named_in_every_format(two_sweeps, capsys: Capture) -> None:
    words = ["table", "norm=gn,frn", "batch=2,4", "seed=range(3)", "epochs=3"]
    line = "8 of 12 runs are missing: norm=gn (seed 2), norm=frn (seeds 0 to 2)"
    tree = json.loads(said(capsys, *words, "batch=2", "--format", "json"))
    assert tree["warnings"] == [line.replace("8 of 12", "4 of 6")]
    assert [(cell["row"], cell["n"], cell["missing"]) for cell in tree["cells"]] == [
        ("gn", 2, 1),
        ("frn", 0, 3),
    ]
    text = said(capsys, *words, "--format", "md")
    assert "8 of 12 runs are missing: norm=gn batch=2 (seed 2)" in text
    assert "| gn | 2.05 ± 0.07 (1/3 missing) | 4.05 ± 0.07 (1/3 missing) |" in text
    assert "| frn | 3/3 missing | 3/3 missing |" in text
    assert "8 of 12 runs are missing" in said(capsys, *words, "--format", "latex")
    assert "8 of 12 runs are missing" in said(capsys, *words)
    rows = list(csv.DictReader(io.StringIO(said(capsys, *words, "--format", "csv"))))
    assert [row["missing"] for row in rows] == ["1", "1", "3", "3"]
    listed = said(capsys, *words, "--runs", "--format", "csv")
    assert listed.count(",missing,") == 8


def test_where_narrows_the_words_further(two_sweeps, capsys: Capture) -> None:
    words = ["table", "norm=gn,bn", "batch=2,4", "seed=range(3)", "epochs=3", "--where", "batch=2"]
    tree = json.loads(said(capsys, *words, "--where", "norm=bn", "--format", "json"))
    [cell] = tree["cells"]
    assert (cell["row"], cell["col"], cell["n"], cell["missing"]) == ("bn", "2", 2, 1)
    assert tree["warnings"] == ["1 of 3 runs are missing: norm=bn (seed 2)"]


def test_an_impossible_run_is_not_missing_and_says_why(capsys: Capture) -> None:
    words = ["model=lenet5", "norm=in,bn", "batch=4", "steps=2", "invalid=skip", "tracking=none"]
    said(capsys, "train", *words)
    text = said(capsys, "table", *words, "--format", "md")
    assert "| in | n/a |" in text
    assert "n/a in in / 4: site fc1" in text
    assert "missing" not in text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            "table batch=2,8",
            "none of the 2 runs of these words has a record; train them: normbench train batch=2,8",
        ),
        ("table nrom=bn", "nrom"),
        ("table norm=bm", "bm"),
        ("table rubbish", "cannot read 'rubbish'"),
        ("table --batch=2", "write batch=2"),
    ],
)
def test_words_that_name_no_runs_are_bad_input(argv: str, message: str, trainer, capsys: Capture) -> None:
    assert cli.run(argv.split()) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert trainer.trained == []
