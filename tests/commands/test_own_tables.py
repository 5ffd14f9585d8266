"""Tables of one's own: by name, by path, written by `normbench new`; seeds until claims are decided."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from normbench import cli, papers
from normbench.store import Store

Capture = pytest.CaptureFixture[str]
SHORT = """\
title: Groups
metrics: [test_error, test_error@batch]
scales:
  tiny:
    rows: [arm]
    cols: [metric]
    grids:
      - {arm: few groups, norm: gn, norm.args.num_groups: 2, SHARED}
      - {arm: batch norm, norm: bn, SHARED}
"""
SHARED = 'model: mlp, model.hidden: "[8,8]", eval.statistics: "[running,batch]", steps: 3, seed: [0, 1, 2]'
SHORT = SHORT.replace("SHARED", SHARED)
CLAIM = """\
    claims:
      - {id: less, text: BN errs less, kind: greater, a: {arm: few groups}, b: {arm: batch norm}, margin: 0.0}
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def written(text: str, name: str = "groups.yaml") -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")
    return name


def noise(spec) -> float:
    return int(spec.signature[:4], 16) / 2**16


def test_ten_lines_are_a_table_with_arms_and_metrics_side_by_side(trainer, capsys: Capture) -> None:
    trainer.error = lambda spec: 0.1 + 0.01 * noise(spec)
    assert cli.run(["reproduce", written(SHORT), "--json", "out.json"]) == 0
    tree = json.loads(Path("out.json").read_text())
    assert [(cell["row"], cell["col"]) for cell in tree["cells"]] == [
        ("few groups", "test_error"), ("few groups", "test_error@batch"),
        ("batch norm", "test_error"), ("batch norm", "test_error@batch"),
    ]  # fmt: skip
    assert {cell["n"] for cell in tree["cells"]} == {3}
    assert (Store.default().root / "tables" / "groups.tiny.md").is_file()
    assert "| few groups | 10." in (Store.default().root / "tables" / "groups.tiny.md").read_text()


def test_an_arm_can_be_chosen_and_an_unknown_one_is_refused(trainer, capsys: Capture) -> None:
    file = written(SHORT)
    assert cli.run(["reproduce", file, "arm=batch norm"]) == 0
    assert {spec.norm.name for spec in trainer.trained} == {"bn"}
    assert cli.run(["reproduce", file, "arm=batchnorm"]) == 2
    assert "unknown arm 'batchnorm'; nearest: batch norm" in capsys.readouterr().err


def test_a_table_in_the_own_folder_has_a_name(trainer, capsys: Capture) -> None:
    written(SHORT, "conf/paper/mine/groups.yaml")
    assert cli.run(["reproduce"]) == 0
    assert "mine/groups" in capsys.readouterr().out
    assert cli.run(["reproduce", "mine/groups"]) == 0
    assert (Store.default().root / "tables" / "mine" / "groups.tiny.md").is_file()


def test_seeds_are_added_until_the_claim_is_decided(trainer, capsys: Capture) -> None:
    trainer.error = lambda spec: (0.105 if spec.norm.name == "gn" else 0.1) + 0.006 * noise(spec)
    file = written(SHORT + CLAIM)
    assert cli.run(["reproduce", file, "--until-decided", "--max-seeds", "24", "--json", "out.json"]) == 0
    [claim] = json.loads(Path("out.json").read_text())["claims"]
    assert claim["verdict"] == "supported"
    assert 3 < claim["n"] < 24
    said = capsys.readouterr().out
    assert "look 2 of 4: 6 further runs in 2 cells for less" in said
    assert "each look has 1/4 of the level" in said
    before = len(trainer.trained)
    assert cli.run(["reproduce", file, "--until-decided", "--max-seeds", "24", "--json", "again.json"]) == 0
    assert len(trainer.trained) == before
    assert Path("again.json").read_bytes() == Path("out.json").read_bytes()


def test_seeds_are_spent_and_strict_fails_on_what_is_undecided(trainer, capsys: Capture) -> None:
    trainer.error = lambda spec: 0.1 + 0.01 * noise(spec)
    words = ["reproduce", written(SHORT + CLAIM), "--until-decided", "--max-seeds", "6"]
    assert cli.run(words) == 0
    assert len(trainer.trained) == 12
    assert "UNDECIDED less" in capsys.readouterr().out
    assert cli.run([*words, "--strict"]) == 1


def test_cells_of_absent_data_are_not_available_and_the_reason_is_said(
    trainer, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NORMBENCH_DATA", "nowhere")
    grid = "{data: DATA, model: lenet5, norm: [bn, gn], steps: 2, seed: [0, 1]}"
    lines = [f"      - {grid.replace('DATA', name)}" for name in ("digits", "mnist")]
    head = "title: T\nscales:\n  tiny:\n    rows: [data]\n    cols: [norm]\n    needs: [mnist]\n    grids:\n"
    claim = CLAIM.replace("{arm: few groups}", "{data: mnist, norm: bn}").replace(
        "{arm: batch norm}", "{data: mnist, norm: gn}"
    )
    assert cli.run(["reproduce", written(head + "\n".join(lines) + "\n" + claim), "--json", "out.json"]) == 0
    assert {spec.data.name for spec in trainer.trained} == {"digits"}
    tree = json.loads(Path("out.json").read_text())
    gone = [cell for cell in tree["cells"] if cell["row"] == "mnist"]
    assert len(gone) == 2
    assert all("no files of data=mnist under data.root=nowhere" in cell["impossible"] for cell in gone)
    assert tree["claims"][0]["verdict"] == "skipped"
    assert "n/a in mnist / bn, mnist / gn" in " ".join(tree["notes"])


def test_runs_that_invalid_skip_left_out_are_not_available(
    trainer, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Instance norm before the linear layers of an MLP has one value per statistic."""
    grid = "{model: mlp, norm: [bn, in], batch: 4, steps: 2, seed: [0, 1]}"
    name = written(f"title: T\nscales:\n  tiny:\n    rows: [norm]\n    grids:\n      - {grid}\n")
    assert cli.run(["reproduce", name]) == 2
    assert cli.run(["reproduce", name, "invalid=skip"]) == 0
    tables = Store.default().root / "tables"
    [page] = tables.glob("groups.tiny*.md")
    assert "| in | n/a |" in page.read_text()
    assert "missing" not in page.read_text()
    monkeypatch.setattr(papers, "names", lambda own=None: [])  # composing other tables takes seconds
    assert cli.run(["report"]) == 0
    [shown] = (Store.default().root / "report").glob("groups*.html")
    assert "n/a in in / test_error" in shown.read_text() and "missing" not in shown.read_text()


def test_a_number_from_weak_memory_is_shown_with_its_mark(trainer, capsys: Capture) -> None:
    text = SHORT.replace(
        "scales:",
        "published:\n  - {id: p, source: S, trust: weak, setting: X, key: arm, values: {batch norm: 0.2}}\n"
        "scales:",
    )
    text = text.replace("    cols: [metric]\n", "    cols: [metric]\n    published: [{id: p}]\n")
    assert cli.run(["reproduce", written(text)]) == 0
    folder = Store.default().root / "tables"
    assert "20.0 (?)" in (folder / "groups.tiny.md").read_text()
    assert "20.0 (?)" in (folder / "groups.tiny.tex").read_text()
    assert ",weak" in (folder / "groups.tiny.csv").read_text()
    assert '"published_trust": "weak"' in (folder / "groups.tiny.json").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothere.yaml"], "no file at nothere.yaml"),
        (["groups.yaml", "scale=big"], "unknown scale of groups 'big'"),
        (["groups.yaml", "--max-seeds", "5"], "--max-seeds needs --until-decided"),
        (["groups.yaml", "--until-decided", "--max-seeds", "1"], "--max-seeds must be at least 2; got 1"),
        (["bad.yaml"], "paper table bad is not well described: scales.tiny: claim less names a cell outside"),
        (["shape.yaml"], "paper table shape is not well described: published.0: p: few groups has 2 numbers"),
        (["alias.yaml"], "paper table alias is not well described: found undefined alias 'nobody'"),
        (
            ["groups.yaml", "eval.statistics=[running]"],
            "no run of groups.yaml has test_error@batch at scale tiny",
        ),
        (["mine/groups"], "unknown paper table 'mine/groups'"),
        (["list.yaml"], "paper table list is not well described: it must be a mapping"),
    ],
)
def test_bad_input_is_one_line(words: list[str], said: str, trainer, capsys: Capture) -> None:
    written(SHORT)
    written(SHORT + CLAIM.replace("few groups", "no groups"), "bad.yaml")
    written("- a\n", "list.yaml")
    numbers = "{id: p, source: S, trust: read, setting: X, key: arm, values: {few groups: [0.1, 0.2]}}"
    written(SHORT + f"published: [{numbers}]\n", "shape.yaml")
    written(SHORT.replace("    grids:\n", "    grids:\n      - {<<: *nobody}\n"), "alias.yaml")
    assert cli.run(["reproduce", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert trainer.trained == []


def test_new_ablation_writes_an_example_that_runs(trainer, capsys: Capture) -> None:
    assert cli.run(["new", "ablation", "groups"]) == 0
    assert Path("conf/paper/mine/groups.yaml").is_file()
    assert cli.run(["reproduce", "mine/groups"]) == 0
    assert len(trainer.trained) == 20
    assert "REPORT bn_collapses" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ablation", "../x"], "a name has letters, digits"),
        (["ablaton", "x"], "unknown kind of file 'ablaton'; nearest: ablation"),
    ],
)
def test_new_refuses_what_it_cannot_write(words: list[str], said: str, capsys: Capture) -> None:
    assert cli.run(["new", *words]) == 2
    assert said in capsys.readouterr().err
    assert not Path("conf").exists()


def test_new_never_overwrites(capsys: Capture) -> None:
    assert cli.run(["new", "ablation", "a/b"]) == 0
    assert cli.run(["new", "ablation", "a/b"]) == 2
    assert "exists already" in capsys.readouterr().err
