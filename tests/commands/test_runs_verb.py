"""`normbench runs`: the list, `rm`, `tag`."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from normbench import cli, leases, unfinished
from normbench.spec import RunSpec
from normbench.store import Store

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def runs(trainer, make_sweep) -> list[RunSpec]:
    """Eight runs: two norms, two batches, two seeds; gn with batch 4 fails."""
    trainer.breaks = lambda spec: spec.norm.name == "gn" and spec.batch == 4
    trainer(make_sweep("norm=bn,gn", "batch=2,4", "seed=range(2)"), Store.default())
    return list(trainer.trained)


def said(capsys: Capture, *argv: str) -> str:
    assert cli.run(argv) == 0
    return capsys.readouterr().out


def listed(capsys: Capture, *argv: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(said(capsys, "runs", *argv, "--json"))
    return found


def begun(spec: RunSpec, step: int) -> Path:
    """The folder of a run that was killed after a step."""
    folder = Store.default().run_folder(spec.signature)
    folder.mkdir(parents=True)
    (folder / "checkpoint.pt").touch()
    (folder / "checkpoint.json").write_text(unfinished.note(step, 200, [], spec.model_dump(mode="json")))
    return folder


def test_the_list_says_status_metric_and_size(runs: list[RunSpec], capsys: Capture) -> None:
    rows = {row["run"]: row for row in listed(capsys)}
    assert rows.keys() == {spec.signature for spec in runs}
    first = rows[runs[1].signature]
    assert (first["label"], first["status"], first["test_error"]) == (
        "norm=bn batch=2 seed=1",
        "complete",
        0.021,
    )
    folder = Path(first["folder"])
    assert first["bytes"] == sum(file.stat().st_size for file in folder.iterdir())
    failed = [row for row in rows.values() if row["status"] == "failed"]
    assert [row["note"] for row in failed] == ["RuntimeError: no luck"] * 2
    assert {row["test_error"] for row in failed} == {None}


def test_the_list_of_words_has_their_order_and_says_what_is_absent(
    runs: list[RunSpec], capsys: Capture
) -> None:
    words = ["norm=gn,bn", "batch=2", "seed=range(3)"]
    found = [(row["label"]) for row in listed(capsys, *words)]
    assert found == ["norm=gn seed=0", "norm=gn seed=1", "norm=bn seed=0", "norm=bn seed=1"]
    text = said(capsys, "runs", *words)
    assert "4 runs (4 complete), " in text
    assert "2 of 6 runs are not here: normbench train norm=gn,bn batch=2 'seed=range(3)'" in text


def test_conditions_and_sorting(runs: list[RunSpec], capsys: Capture) -> None:
    rows = listed(capsys, "--where", "norm=bn", "--sort", "test_error", "--reverse")
    assert [row["test_error"] for row in rows] == [0.041, 0.04, 0.021, 0.02]
    assert [row["test_error"] for row in listed(capsys, "--sort", "metric")][-2:] == [None, None]
    assert [row["label"].split()[0] for row in listed(capsys, "--sort", "norm")] == ["norm=bn"] * 4 + [
        "norm=gn"
    ] * 4
    assert len(listed(capsys, "--where", "status=failed")) == 2
    table = list(csv.DictReader(io.StringIO(said(capsys, "runs", "--csv", "--where", "status=failed"))))
    assert [row["status"] for row in table] == ["failed", "failed"]


def test_a_run_on_the_way_is_partial_with_the_step_of_its_checkpoint(
    runs: list[RunSpec], make_spec, capsys: Capture
) -> None:
    spec = make_spec("norm=bn", "batch=8")
    begun(spec, 120)
    [row] = listed(capsys, "norm=bn", "batch=8")
    assert (row["status"], row["steps"], row["note"]) == ("partial", 120, "checkpoint at step 120")
    [row] = listed(capsys, "--where", "status=partial")
    assert row["run"] == spec.signature
    assert len(listed(capsys, "--where", "norm=bn")) == 5


def test_a_run_with_a_lease_is_running(make_spec, capsys: Capture) -> None:
    spec = make_spec("norm=bn")
    begun(spec, 7)
    lease = leases.Lease(step=9, steps=200)
    assert leases.take(Store.default().lease_file(spec.signature), lease)
    [row] = listed(capsys)
    assert (row["status"], row["steps"]) == ("running", 9)
    assert row["note"].startswith(f"trained by {lease.holder.host} process {lease.holder.pid}, seen ")
    assert cli.run(["runs", "rm", spec.signature, "--yes"]) == 2
    assert "is being trained" in capsys.readouterr().err
    leases.release(Store.default().lease_file(spec.signature), lease.token)
    assert [row["status"] for row in listed(capsys)] == ["partial"]


BAD = {
    "unknown key to sort by 'sise'; nearest: size": ["--sort", "sise"],
    "unknown metric 'test_eror'": ["--metric", "test_eror"],
    "runs takes the words of train, rm or tag; got '3f2a'": ["3f2a"],
    "exclude each other": ["--json", "--csv"],
    "no run has norm ln_c": ["--where", "norm=ln_c"],
    "say which runs: starts of": ["rm"],
    "unknown run 'zz'": ["rm", "zz"],
    "no run at hand is meant": ["rm", "norm=ln_c"],
    "give signatures, or words": ["rm", "ab", "norm=bn"],
    "4 runs (4 complete), ": ["rm", "norm=bn,gn", "batch=2", "seed=range(2)"],
    "unknown act 'ad'; nearest: add": ["tag", "ad", "x", "norm=bn"],
    "a tag has 1 to 64 visible characters": ["tag", "add", "a,b", "norm=bn"],
    "say which runs: ": ["tag", "add", "x"],
}


def test_bad_input_is_one_line_and_changes_nothing(runs: list[RunSpec], capsys: Capture) -> None:
    before = sorted(Store.default().root.rglob("*"))
    for text, argv in BAD.items():
        assert cli.run(["runs", *argv]) == 2
        error = capsys.readouterr().err
        assert text in error
        assert error.count("\n") == 1
    assert sorted(Store.default().root.rglob("*")) == before


def test_an_empty_store_says_so(capsys: Capture) -> None:
    assert cli.run(["runs"]) == 2
    assert "holds no runs; train some" in capsys.readouterr().err


def test_rm_removes_whole_folders_and_nothing_else(runs: list[RunSpec], capsys: Capture) -> None:
    store = Store.default()
    text = said(capsys, "runs", "rm", "--where", "status=failed", "--yes")
    assert "removed 2 runs (2 failed), " in text
    assert {row["status"] for row in listed(capsys)} == {"complete"}
    assert not [spec for spec in runs[-2:] if store.run_folder(spec.signature).exists()]
    assert not (store.root / ".removed").exists()
    said(capsys, "runs", "rm", runs[0].signature[:6], "--yes")
    assert len(listed(capsys)) == 5


def test_rm_asks_on_a_terminal(runs: list[RunSpec], monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    asked = []
    for answer, code, left in (("", 1, 8), ("n", 1, 8), ("y", 0, 7)):
        monkeypatch.setattr("builtins.input", lambda prompt, answer=answer: asked.append(prompt) or answer)
        assert cli.run(["runs", "rm", runs[0].signature]) == code
        capsys.readouterr()
        assert len(listed(capsys)) == left
    assert asked[0].startswith("remove 1 run (1 complete), ")


def test_rm_removes_a_run_on_the_way(make_spec, capsys: Capture) -> None:
    folder = begun(make_spec("norm=bn"), 5)
    said(capsys, "runs", "rm", folder.name[:5], "--yes")
    assert not folder.parent.exists()


def test_rm_never_leaves_the_store(runs: list[RunSpec], tmp_path: Path, capsys: Capture) -> None:
    folder = Store.default().run_folder(runs[0].signature)
    elsewhere = tmp_path / "elsewhere" / folder.name
    elsewhere.parent.mkdir()
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    assert cli.run(["runs", "rm", runs[0].signature, runs[1].signature, "--yes"]) == 2
    assert "leads out of the store" in capsys.readouterr().err
    assert (elsewhere / "record.json").is_file()
    assert Store.default().get(runs[1].signature) is not None


def test_tags_change_afterwards_and_select_runs(runs: list[RunSpec], capsys: Capture) -> None:
    record = Store.default().run_folder(runs[0].signature) / "record.json"
    before = record.read_bytes()
    text = said(capsys, "runs", "tag", "add", "draft", "--where", "norm=bn")
    assert text == "tag draft added to 4 runs; 0 of 4 were so before\n"
    said(capsys, "runs", "tag", "add", "second try", runs[0].signature)
    assert [row["tags"] for row in listed(capsys, "--where", "tags=second try")] == ["draft,second try"]
    cells = json.loads(said(capsys, "table", "--where", "tags=draft", "--format", "json"))["cells"]
    assert {cell["row"] for cell in cells} == {"bn"}
    assert len(listed(capsys, "--where", "tags!=draft")) == 4
    assert said(capsys, "runs", "tag", "rm", "draft", "norm=bn", "batch=2,4").startswith(
        "tag draft taken from 2"
    )
    assert len(listed(capsys, "--where", "tags=draft")) == 2
    assert record.read_bytes() == before
    assert cli.run(["runs", "--where", "tags=none of these"]) == 2
    assert "there are: draft, second try" in capsys.readouterr().err


def test_tags_of_the_training_can_be_taken_away(trainer, capsys: Capture) -> None:
    cli.run(["train", "tracking.tags=[mine,other]"])
    capsys.readouterr()
    said(capsys, "runs", "tag", "rm", "mine", "--where", "tags=mine")
    assert [row["tags"] for row in listed(capsys)] == ["other"]
    folder = Store.default().run_folder(trainer.trained[0].signature)
    assert json.loads((folder / "tags.json").read_text()) == {"tags": ["other"], "removed": ["mine"]}
    (folder / "tags.json").write_text('["earlier"]')  # of an earlier version
    assert [row["tags"] for row in listed(capsys)] == ["earlier"]
    (folder / "tags.json").write_text("{")
    assert [row["tags"] for row in listed(capsys)] == ["mine,other"]
