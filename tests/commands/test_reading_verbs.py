"""The verbs that read: table, info, plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from normbench import cli
from normbench.commands.rerun import command, words
from normbench.commands.text_table import columns
from normbench.config.compose import compose
from normbench.config.grammar import written
from normbench.config.resolve import resolve
from normbench.spec import RunSpec
from normbench.store import Store

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def runs(trainer, capsys: Capture) -> list[RunSpec]:
    """Twelve finished runs: two norms, two batches, three seeds."""
    assert cli.run(["train", "norm=bn,gn", "batch=2,4", "seed=range(3)"]) == 0
    capsys.readouterr()
    return trainer.trained


def said(capsys: Capture, *argv: str) -> str:
    assert cli.run(argv) == 0
    return capsys.readouterr().out


def test_a_table_has_means_and_deviations(runs: list[RunSpec], capsys: Capture) -> None:
    text = said(capsys, "table", "--rows", "norm", "--cols", "batch")
    assert "2.10 ± 0.10" in text
    assert "4.10 ± 0.10" in text


def test_a_table_can_be_narrowed_and_turned(runs: list[RunSpec], capsys: Capture) -> None:
    argv = ["table", "--rows", "batch", "--cols", "norm", "--where", "norm=bn", "--where", "batch!=4"]
    cells = json.loads(said(capsys, *argv, "--format", "json"))["cells"]
    assert [(cell["row"], cell["col"], cell["n"]) for cell in cells] == [("2", "bn", 3)]


@pytest.mark.parametrize(
    ("suffix", "start"), [("md", "test_error"), ("csv", "norm,batch,metric,"), ("tex", "%"), ("json", "{")]
)
def test_a_table_goes_to_a_file_by_its_suffix(
    suffix: str, start: str, runs: list[RunSpec], tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / f"table.{suffix}"
    assert said(capsys, "table", "--out", str(file)) == f"wrote {file}\n"
    assert file.read_text().startswith(start)


@pytest.mark.parametrize(
    "argv",
    [
        ["--out", "t.pdf"],
        ["--out", "results/runs"],
        ["--out", "t.md", "--format", "rich"],
        ["--rows", "nrom"],
    ],
)
def test_a_table_that_cannot_be_is_refused(
    argv: list[str], runs: list[RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["table", *argv]) == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["results"]


def test_info_shows_a_run_and_how_to_repeat_it(runs: list[RunSpec], capsys: Capture) -> None:
    spec = runs[4]
    text = said(capsys, "info", spec.signature[:6])
    assert f"run {spec.signature}: complete" in text
    assert "normbench train batch=4 seed=1" in text
    assert "test_error        4.10 %" in text


def test_info_as_json_is_the_record_as_written(runs: list[RunSpec], capsys: Capture) -> None:
    folder = Store.default().run_folder(runs[0].signature)
    assert said(capsys, "info", str(folder), "--json") == (folder / "record.json").read_text()


def test_a_failed_run_says_why(trainer, capsys: Capture) -> None:
    trainer.breaks = lambda spec: True
    cli.run(["train"])
    capsys.readouterr()
    assert "failed, RuntimeError: no luck" in said(capsys, "info", trainer.trained[0].signature)


@pytest.mark.parametrize(
    "asked",
    [
        "",
        "norm=gn norm.args.num_groups=2 batch=4 total=16 steps=20 seed=3",
        "model=mlp model.hidden=[10,20] norm.momentum=debiased:0.1 placement.sites=[a.*,b]",
        "norm.args.track=false norm.momentum=keras:0.9 data=synthetic engine.precision=bf16",
        "schedule=step schedule.milestones=[0.1,0.2] tracking=none engine.lanes=1 norm.affine=weight",
        "data=folder data.path=. optim.lr=0.3 optim.nesterov=true eval.every=7 model=resnet20 weight=ws",
    ],
)
def test_the_words_of_a_record_give_the_same_run(
    asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "image").touch()
    [config] = compose(asked.split())
    spec = resolve(config).spec
    [again] = compose(words(spec.model_dump(mode="json")))
    assert resolve(again).spec.signature == spec.signature


@pytest.mark.parametrize("text", ["a b", "it's", 'say "so"', "back\\slash", "a,b", "null", "1e3", "ü", "a=b"])
def test_any_text_survives_as_a_word(text: str) -> None:
    [config] = compose([f"tracking.project={written(text)}"])
    assert config["tracking"]["project"] == text


def test_the_words_of_a_record_hold_no_defaults(trainer) -> None:
    [config] = compose(["norm=gn", "seed=1", "placement.sites=[a.*]"])
    spec = resolve(config).spec.model_dump(mode="json")
    assert command(spec) == "normbench train norm=gn 'placement.sites=a.*' seed=1"


def test_a_plan_counts_runs_and_says_what_became_one(runs: list[RunSpec], capsys: Capture) -> None:
    text = said(capsys, "plan", "norm=bn,gn", "batch=2,8", "seed=range(3)", "norm.momentum=0.1,0.2", "-m")
    assert "18 runs: 6 finished before, 12 to train" in text
    assert "norm.momentum of gn has no effect" in text
    assert "6 of 24 runs are the same" in text
    assert "stacks  lanes" in text


def test_a_plan_with_nothing_left_to_train_lists_no_stacks(runs: list[RunSpec], capsys: Capture) -> None:
    text = said(capsys, "plan", "norm=bn,gn", "batch=2,4", "seed=range(3)")
    assert text == "12 runs: 12 finished before, 0 to train\n"


def test_a_plan_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.chdir(tmp_path)
    said(capsys, "plan", "batch=2,4")
    assert list(tmp_path.iterdir()) == []


def test_columns_hold_numbers_to_the_right() -> None:
    assert columns([{"a": "x", "n": 1}, {"a": "long", "n": 100}]) == ["a       n", "x       1", "long  100"]


def test_a_plan_names_what_all_runs_share_and_nothing_that_differs(capsys: Capture) -> None:
    text = said(capsys, "plan", "total=32", "batch=2,4,8", "model=mlp", "seed=0,1", "optim.lr=0.1,0.2")
    [shared] = [line for line in text.splitlines() if line.startswith("all with ")]
    assert "workers" not in shared
    assert "total=32" in shared
    assert "runs also differ in optim.lr=0.1,0.2 seed=0,1" in text
    text = said(capsys, "plan", "workers=2,4", "model=mlp", "placement.sites=first,last")
    [shared] = [line for line in text.splitlines() if line.startswith("all with ")]
    assert "total" not in shared
    assert "batch=32" in shared
    header = next(line for line in text.splitlines() if line.startswith("stacks"))
    assert set(header.split()) == {"stacks", "lanes", "workers", "placement.sites"}


def test_a_plan_leaves_out_what_is_impossible_if_asked(capsys: Capture) -> None:
    words = ["plan", "model=lenet5", "norm=in,gn,bn", "batch=2", "seed=0,1"]
    assert cli.run(words) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: norm=in: site fc1: in: a statistic must average at least 2 values")
    assert "2 of 6 runs cannot exist, invalid=skip leaves them out" in err
    text = said(capsys, *words, "invalid=skip")
    assert text.startswith("4 runs: 4 to train")
    assert text.count("note: n/a: norm=in: site fc1") == 1


def test_an_unknown_run_among_many_says_how_many_there_are(trainer, capsys: Capture) -> None:
    assert cli.run(["train", "model=mlp", "seed=range(45)"]) == 0
    capsys.readouterr()
    assert cli.run(["info", "zz"]) == 2
    err = capsys.readouterr().err
    assert "unknown run 'zz' among 45; give the start of a signature or a folder" in err
    assert len(err) < 300


def test_a_baseline_adds_differences(runs: list[RunSpec], capsys: Capture) -> None:
    text = said(
        capsys, "table", "norm=bn,gn", "batch=2,4", "seed=range(3)", "--baseline", "batch=2", "--format", "md"
    )
    assert "| *minus 2* | – | +2.00 [+2.00, +2.00] |" in text
    assert cli.run(["table", "--baseline", "bm"]) == 2
    assert "unknown baseline 'bm'; nearest: bn" in capsys.readouterr().err
    assert cli.run(["table", "--baseline", "bn", "--runs"]) == 2
    assert capsys.readouterr().err == "error: --baseline compares means; leave out --runs\n"


def test_the_images_per_statistic_are_a_column_if_a_step_has_more(trainer, capsys: Capture) -> None:
    said(capsys, "train", "norm=bn,gn", "batch=8", "total=32")
    assert "| norm / model | images per statistic | lenet5 |" in said(
        capsys, "table", "--rows", "norm", "--cols", "model", "--format", "md"
    )
