"""`normbench report`: which tables it shows, how it judges them, where it writes, what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from html_reader import Reader
from normbench import cli
from normbench.commands.table_runs import TableRuns
from normbench.store import Store

Capture = pytest.CaptureFixture[str]
TABLE = """\
title: Groups
question: Do groups matter?
scales:
  tiny:
    rows: [arm]
    grids:
      - {arm: few groups, norm: gn, norm.args.num_groups: 2, SHARED}
      - {arm: batch norm, norm: bn, SHARED}
    claims:
      - {id: less, text: BN errs less, kind: greater, a: {arm: few groups}, b: {arm: batch norm}, margin: 0.0}
"""
SHARED = 'data: digits, model: mlp, model.hidden: "[8,8]", steps: 3, seed: [0, 1, 2]'
MINE = "conf/paper/mine/groups.yaml"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work/conf/paper/mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    Path(MINE).write_text(TABLE.replace("SHARED", SHARED), encoding="utf-8")


@pytest.fixture
def groups(trainer):
    """The runs of TABLE, trained; batch norm errs less, by an amount that differs between seeds."""
    trainer.error = lambda spec: 0.1 + 0.02 * (spec.norm.name == "gn") + 0.001 * spec.seed * (spec.batch + 1)
    return trainer


def folder() -> Path:
    return Store.default().root / "report"


def page(name: str = "mine.groups.tiny") -> Reader:
    return Reader((folder() / f"{name}.html").read_text(encoding="utf-8"))


def verdict(name: str = "mine.groups.tiny") -> str:
    [found] = [e.text for e in page(name).all("p") if e.attributes.get("class", "").startswith("verdict")]
    return found


def said(name: str) -> list[str]:
    """Verdicts and evidence of all claims of a JSON file of `reproduce`."""
    tree = json.loads((Store.default().root / "tables" / f"{name}.json").read_text())
    return [claim["evidence"] for claim in tree["claims"]]


def evidence(name: str) -> list[str]:
    return [e.text for e in page(name).all("p", cls="evidence")]


# Which tables


def test_a_reproduced_table_is_shown_as_it_was_judged(groups, capsys: Capture) -> None:
    cli.run(["reproduce", "mine/groups", "seed=0,1"])
    assert cli.run(["report"]) == 0
    assert "mine.groups.tiny" in capsys.readouterr().out
    assert evidence("mine.groups.tiny") == said("mine/groups.tiny")
    commands = [e.text for e in page().all("pre", cls="command")]
    assert commands == ["normbench reproduce mine/groups scale=tiny seed=0,1"]
    assert len(page().all("tr", id="cell-0")) == 1
    assert "Do groups matter?" in Reader((folder() / "index.html").read_text()).all("main")[0].text


def test_looks_at_the_claims_are_repeated(groups) -> None:
    noisy = {0: 0.08, 1: -0.08, 2: 0.06, 3: -0.02}
    groups.error = lambda spec: (
        0.3 + (0.05 + noisy.get(spec.seed, 0.001 * spec.seed) if spec.norm.name == "gn" else 0.0)
    )
    cli.run(["reproduce", "mine/groups", "--until-decided", "--max-seeds", "24"])
    assert len(groups.trained) > 6
    assert cli.run(["report"]) == 0
    assert evidence("mine.groups.tiny") == said("mine/groups.tiny")
    assert any("Seeds were added until claims were decided" in e.text for e in page().all("p", cls="note"))


def test_words_over_a_table_make_a_page_of_their_own(groups) -> None:
    cli.run(["reproduce", "mine/groups"])
    cli.run(["reproduce", "mine/groups", "steps=4"])
    assert cli.run(["report"]) == 0
    [other] = [f.stem for f in folder().glob("mine.groups.tiny.*.html")]
    assert "steps=4" in page(other).all("pre", cls="command")[0].text
    assert "steps=4" not in page().all("pre", cls="command")[0].text


def test_a_table_of_ones_own_by_path_is_shown(groups) -> None:
    shutil.move(MINE, "elsewhere.yaml")
    cli.run(["reproduce", "elsewhere.yaml"])
    assert cli.run(["report"]) == 0
    assert (folder() / "elsewhere.tiny.html").is_file()


def test_runs_without_a_file_of_reproduce_are_found_by_their_words(groups) -> None:
    cli.run(["reproduce", "mine/groups"])
    shutil.rmtree(Store.default().root / "tables")
    assert cli.run(["report"]) == 0
    assert [file.name for file in folder().glob("*.html")].count("mine.groups.tiny.html") == 1
    assert "The one asserted claim is" in verdict()


def test_tables_whose_runs_are_longer_or_of_other_batches_are_not_composed(
    groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed: list[str] = []
    found = TableRuns.found
    counted = lambda runs: composed.append(runs.table.name) or found(runs)  # noqa: E731
    monkeypatch.setattr(TableRuns, "found", counted)
    cli.run(["reproduce", "mine/groups", "seed=0"])
    shutil.rmtree(Store.default().root / "tables")
    composed.clear()
    assert cli.run(["report"]) == 0
    assert composed == ["mine/groups"]
    assert (folder() / "mine.groups.tiny.html").is_file()


def test_a_grid_with_steps_and_epochs_is_found_by_its_steps(groups) -> None:
    Path(MINE).write_text(TABLE.replace("SHARED", f"epochs: 2, batch: 16, {SHARED}"), encoding="utf-8")
    cli.run(["reproduce", "mine/groups"])
    shutil.rmtree(Store.default().root / "tables")
    assert cli.run(["report"]) == 0
    assert (folder() / "mine.groups.tiny.html").is_file()


def test_a_table_that_is_gone_or_damaged_is_left_out_and_named(groups, capsys: Capture) -> None:
    cli.run(["reproduce", "mine/groups"])
    cli.run(["reproduce", "wu2018/batch_size", "norm=bn", "batch=2,32", "seed=0,1", "steps=3"])
    Path(MINE).unlink()
    (Store.default().root / "tables" / "torn.json").write_text('{"paper": ')
    capsys.readouterr()
    assert cli.run(["report"]) == 0
    warned = capsys.readouterr().err
    assert "groups.tiny.json: unknown paper table 'mine/groups'" in warned
    assert "torn.json is not a table of reproduce" in warned
    index = Reader((folder() / "index.html").read_text())
    assert [e.attributes["href"] for e in index.all("a") if "wu2018" in e.attributes["href"]]
    assert any("torn.json" in e.text for e in index.all("li"))


def test_a_failed_run_is_on_the_page_with_its_reason(groups) -> None:
    groups.breaks = lambda spec: (spec.norm.name, spec.seed) == ("bn", 2)
    assert cli.run(["reproduce", "mine/groups"]) == 1
    assert cli.run(["report"]) == 0
    assert any("1/3 failed" in e.text for e in page().all("td"))
    assert any("RuntimeError: no luck" in f.read_text() for f in (folder() / "runs").iterdir())


# Chosen runs


def test_words_of_train_make_one_page_for_those_runs(groups, capsys: Capture) -> None:
    words = ["model=mlp", "norm=bn,gn", "batch=8,32", "steps=3"]
    cli.run(["train", *words, "tracking=none"])
    cli.run(["train", *words, "norm=frn", "tracking=none"])
    assert cli.run(["report", *words, "seed=0,1"]) == 0
    shown = page("runs")
    assert [e.text for e in shown.all("p", role="status")] == [
        "4 runs; each leads to its command line and curve"
    ]
    assert any("4 of 8 runs are missing" in e.text for e in shown.all("p", cls="warning"))
    [command] = {e.text for e in shown.all("pre", cls="command")}
    assert command == "normbench report model=mlp norm=bn,gn batch=8,32 steps=3 seed=0,1"
    assert "frn" not in shown.all("main")[0].text


def test_conditions_choose_runs_and_the_metric_is_shown(groups) -> None:
    cli.run(["train", "model=mlp", "norm=bn,gn", "batch=8,32", "steps=3", "tracking=none"])
    assert cli.run(["report", "--where", "norm=gn", "--metric", "test_loss"]) == 0
    assert any(e.text.startswith("test_loss;") for e in page("runs").all("caption"))
    assert "2 runs" in page("runs").all("p", role="status")[0].text


def test_the_command_of_a_run_is_that_of_info(groups, capsys: Capture) -> None:
    cli.run(["train", "model=mlp", "norm=gn", "batch=8", "steps=3", "tracking=none"])
    [record] = Store.default().records()
    capsys.readouterr()
    cli.run(["info", record.signature])
    printed = capsys.readouterr().out.partition("rerun\n  ")[2].strip()
    assert cli.run(["report", "--where", "norm=gn"]) == 0
    [file] = (folder() / "runs").iterdir()
    assert [e.text for e in Reader(file.read_text()).all("pre", cls="command")] == [printed]


# The folder


def test_an_earlier_report_is_replaced_and_other_files_stay(groups, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cli.run(["reproduce", "mine/groups"])
    cli.run(["reproduce", "mine/groups", "steps=4"])
    cli.run(["report", "--out", str(out)])
    (out / "note.txt").write_text("mine")
    [gone] = out.glob("mine.groups.tiny.*.html")
    (Store.default().root / "tables/mine" / f"{gone.stem.removeprefix('mine.')}.json").unlink()
    assert cli.run(["report", "--out", str(out)]) == 0
    assert not gone.exists()
    assert (out / "note.txt").read_text() == "mine"
    assert (out / "mine.groups.tiny.html").is_file()


def test_a_folder_of_other_files_is_not_touched(groups, tmp_path: Path, capsys: Capture) -> None:
    cli.run(["reproduce", "mine/groups"])
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "index.html").write_text("mine")
    capsys.readouterr()
    assert cli.run(["report", "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "must be empty or hold an earlier report" in error and error.count("\n") == 1
    assert [(f.name, f.read_text()) for f in out.iterdir()] == [("index.html", "mine")]


def test_a_manifest_cannot_make_it_delete_files_elsewhere(groups, tmp_path: Path) -> None:
    cli.run(["reproduce", "mine/groups"])
    out, other = tmp_path / "out", tmp_path / "other.txt"
    out.mkdir()
    other.write_text("mine")
    (out / ".normbench-report.json").write_text(json.dumps(["../other.txt", str(other), 3]))
    assert cli.run(["report", "--out", str(out)]) == 0
    assert other.read_text() == "mine"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "no table has a finished run"),
        (["--where", "norm=gn"], "there are no records"),
        (["--metric", "test_loss"], "--metric needs words or --where"),
        (["--out", "/dev/null"], "'/dev/null' is a file"),
        (["--out", "/dev/null/below"], "--out must be writable"),
    ],
)
def test_without_runs_or_a_place_one_line_says_so(argv, message, capsys: Capture) -> None:
    assert cli.run(["report", *argv]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not folder().exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--where", "nrom=gn"], "unknown key 'nrom'; nearest: norm"),
        (["--where", "norm=frn"], "no run has norm frn"),
        (["--where", "norm=gn", "--metric", "test_eror"], "unknown metric 'test_eror'"),
        (["norm=gn", "steps=77"], "has no record"),
        (["norm=gm"], "unknown norm 'gm'"),
        (["--formats", "html"], "unrecognized arguments: --formats"),
    ],
)
def test_what_cannot_be_shown_is_bad_input(argv, message, groups, capsys: Capture) -> None:
    cli.run(["train", "model=mlp", "norm=gn", "steps=3", "tracking=none"])
    capsys.readouterr()
    assert cli.run(["report", *argv]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not folder().exists()
