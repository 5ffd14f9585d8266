"""`normbench train` says what came of the runs, and its exit code says whether one failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from normbench import cli
from normbench.commands.summary import varying
from normbench.store import Store

Capture = pytest.CaptureFixture[str]


def test_one_run_says_its_metrics_its_record_and_the_table_command(trainer, capsys: Capture) -> None:
    assert cli.run(["train", "norm=bn", "batch=2"]) == 0
    [spec] = trainer.trained
    said = capsys.readouterr().out
    assert f"run {spec.signature} complete in 1.5 s" in said
    assert "test_error        2.00 %" in said
    assert str(Store.default().run_folder(spec.signature)) in said
    assert "normbench table norm=bn batch=2 --rows norm --cols batch" in said


def test_a_finished_run_is_not_trained_again_and_that_is_said(trainer, capsys: Capture) -> None:
    assert cli.run(["train", "batch=2"]) == 0
    capsys.readouterr()
    assert cli.run(["train", "batch=2"]) == 0
    assert len(trainer.trained) == 1
    assert "finished before: nothing was trained" in capsys.readouterr().out


def test_a_sweep_needs_no_flag_and_takes_one(trainer, capsys: Capture) -> None:
    assert cli.run(["train", "norm=bn,gn", "-m", "batch=2,4", "seed=range(3)"]) == 0
    assert len(trainer.trained) == 12
    said = capsys.readouterr().out
    assert "12 runs: 12 trained, 0 finished before" in said
    assert "normbench table norm=bn,gn batch=2,4 'seed=range(3)' --rows norm --cols batch" in said


def test_a_sweep_trains_what_is_missing_and_counts_the_rest(trainer, capsys: Capture) -> None:
    cli.run(["train", "batch=2,4"])
    capsys.readouterr()
    assert cli.run(["train", "batch=2,4,8"]) == 0
    assert "3 runs: 1 trained, 2 finished before" in capsys.readouterr().out
    assert cli.run(["train", "batch=2,4,8"]) == 0
    assert "3 runs, all finished before: nothing was trained" in capsys.readouterr().out


def test_failed_runs_are_listed_with_their_reason_and_exit_1(trainer, capsys: Capture) -> None:
    trainer.breaks = lambda spec: spec.batch == 4
    assert cli.run(["train", "batch=2,4", "seed=0,1"]) == 1
    out, err = capsys.readouterr()
    assert "failed   2" in out
    assert "batch=4 seed=1  RuntimeError: no luck" in out
    assert err == ""


@pytest.mark.parametrize("flags", [["-r"], ["hydra/launcher=basic"]])
def test_runs_train_one_by_one_where_hydra_is_told_to(flags: list[str], trainer, capsys: Capture) -> None:
    assert cli.run(["train", "batch=2", *flags]) == 0
    assert len(trainer.trained) == 1
    assert "test_error        2.00 %" in capsys.readouterr().out


def test_a_lone_failure_exits_1_with_its_reason(trainer, capsys: Capture) -> None:
    trainer.breaks = lambda spec: True
    assert cli.run(["train"]) == 1
    out, err = capsys.readouterr()
    assert "failed" in out
    assert "reason   RuntimeError: no luck" in out
    assert err == ""


def test_duplicates_train_once(trainer, capsys: Capture) -> None:
    assert cli.run(["train", "norm=gn", "norm.momentum=0.1,0.2,0.3"]) == 0
    assert len(trainer.trained) == 1


def test_nothing_is_written_beside_the_results(
    trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["train", "batch=2,4"]) == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["results"]


def test_choices_in_conf_beside_the_user_are_found(
    trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf" / "ablation").mkdir(parents=True)
    text = "# @package _global_\nbatch: 7\nhydra: {sweeper: {params: {seed: 'range(2)'}}}\n"
    (tmp_path / "conf" / "ablation" / "mine.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert cli.run(["train", "+ablation=mine"]) == 0
    assert [(spec.batch, spec.seed) for spec in trainer.trained] == [(7, 0), (7, 1)]


def test_what_varies_is_named_by_its_choice_not_by_its_knobs() -> None:
    specs = [
        {"norm": {"name": name, "momentum": momentum}, "batch": batch, "seed": seed}
        for name, momentum in (("bn", 0.1), ("gn", None))
        for batch in (2, 4, 8)
        for seed in (0, 1)
    ]
    assert varying(specs) == ["batch", "norm"]


def test_workers_that_follow_from_the_batch_are_not_named() -> None:
    assert varying([{"batch": 2, "workers": 4}, {"batch": 8, "workers": 1}]) == ["batch"]
    assert varying([{"batch": 2, "workers": 4}, {"batch": 2, "workers": 1}]) == ["workers"]


def test_the_table_command_has_choices_as_rows_and_numbers_as_columns(trainer, capsys: Capture) -> None:
    cli.run(["train", "optim.lr=0.1,0.2,0.3", "model=mlp,lenet5"])
    assert (
        "normbench table optim.lr=0.1,0.2,0.3 model=mlp,lenet5 --rows model --cols optim.lr"
        in capsys.readouterr().out
    )


def test_a_sweep_trains_for_real_and_only_once(capsys: Capture) -> None:
    words = [
        "train",
        "model=mlp",
        "norm=bn,gn",
        "batch=8,32",
        "steps=30",
        "seed=range(2)",
        "engine.processes=1",
    ]
    assert cli.run(words) == 0
    assert "8 runs: 8 trained, 0 finished before" in capsys.readouterr().out
    assert cli.run(words) == 0
    assert "8 runs, all finished before: nothing was trained" in capsys.readouterr().out
    assert cli.run(["table", "--rows", "norm", "--cols", "batch"]) == 0
    table = capsys.readouterr().out
    assert table.count("±") >= 4
    assert {record.provenance["stack_size"] for record in Store.default().records()} == {2}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["norm=bn,gn", "batch=2,4", "optim.lr=0.1,0.2,0.3"], "--rows norm,batch --cols optim.lr"),
        (["norm=bn", "norm.momentum=0.1,0.01"], "--rows norm --cols norm.momentum"),
        (["norm=bn", "norm.momentum=0.1,cumulative"], "--rows norm.momentum --cols batch"),
        (["norm=bn,gn", "model=mlp,lenet5"], "--rows model --cols norm"),
        (["placement.sites=first,last,all", "batch=2,4"], "--rows placement.sites --cols batch"),
    ],
)
def test_the_table_command_averages_over_nothing_that_differs(
    words: list[str], line: str, trainer, capsys: Capture
) -> None:
    assert cli.run(["train", *words]) == 0
    assert f"normbench table {' '.join(words)} {line}\n" in capsys.readouterr().out


def test_an_argument_that_a_method_lacks_is_dropped_in_a_sweep_and_refused_alone(
    trainer, capsys: Capture
) -> None:
    assert cli.run(["train", "model=mlp", "norm=bn,gn", "norm.args.group_size=2,10"]) == 0
    assert [spec.norm.args.get("group_size") for spec in trainer.trained] == [None, 2, 10]
    capsys.readouterr()
    assert cli.run(["train", "norm.args.group_size=2"]) == 2
    assert "unknown argument of norm=bn 'norm.args.group_size'" in capsys.readouterr().err


def test_impossible_runs_are_skipped_if_asked_and_listed(trainer, capsys: Capture) -> None:
    words = ["train", "model=lenet5", "norm=in,bn", "batch=2,4"]
    assert cli.run(words) == 2
    assert trainer.trained == []
    assert capsys.readouterr().err.startswith("error: norm=in batch=2: site fc1")
    assert cli.run([*words, "invalid=skip"]) == 0
    assert [(spec.norm.name, spec.batch) for spec in trainer.trained] == [("bn", 2), ("bn", 4)]
    said = capsys.readouterr().out
    assert "n/a      norm=in batch=4: site fc1" in said
    assert "2 runs: 2 trained" in said
    assert cli.run(["train", "norm=in", "batch=2,4", "invalid=skip"]) == 2
    assert "none of the 2 runs is possible" in capsys.readouterr().err


def test_a_run_that_is_left_out_is_named_once_for_all_seeds(trainer, capsys: Capture) -> None:
    assert cli.run(["train", "norm=bn,gn", "norm.args.group_size=5", "seed=0,1,2", "invalid=skip"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("n/a")]
    assert len(lines) == len(set(lines)) > 0
