"""normbench from Python: sweeps and runs as values."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import normbench
from normbench import cli

SWEEP = "norm=bn,gn batch=2,4 seed=range(3)"


def test_a_sweep_gives_its_runs_in_the_order_of_the_words(trainer) -> None:
    runs = normbench.sweep(SWEEP, quiet=True)
    assert len(runs) == len(trainer.trained) == 12
    assert [(run.value("norm"), run.value("batch"), run.value("seed")) for run in runs][:4] == [
        ("bn", 2, 0), ("bn", 2, 1), ("bn", 2, 2), ("bn", 4, 0),
    ]  # fmt: skip
    assert runs[-1].metrics["test_error"] == pytest.approx(0.042)
    assert [run.signature for run in runs[:2]] == [runs[0].signature, runs[1].signature]
    assert isinstance(runs[:2], normbench.Runs)


def test_finished_runs_are_read_and_words_may_be_a_list(trainer) -> None:
    first = normbench.sweep(SWEEP, quiet=True)
    again = normbench.sweep(SWEEP.split(), quiet=True)
    assert len(trainer.trained) == 12
    assert [run.signature for run in first] == [run.signature for run in again]


def test_a_quiet_sweep_prints_nothing(trainer, capsys: pytest.CaptureFixture[str]) -> None:
    normbench.sweep("norm=bn", quiet=True)
    assert capsys.readouterr() == ("", "")


def test_the_main_module_is_hidden_from_workers_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from normbench.commands.training import Training

    main, seen = sys.modules["__main__"], []
    monkeypatch.setattr(Training, "many", lambda self, configs: seen.append(sys.modules["__main__"]))
    normbench.sweep("norm=bn")
    assert not hasattr(seen[0], "__file__")
    assert sys.modules["__main__"] is main


def test_a_failed_run_is_in_the_result_with_its_reason(trainer) -> None:
    trainer.breaks = lambda spec: spec.norm.name == "gn"
    runs = normbench.sweep("norm=bn,gn", quiet=True)
    assert len(runs) == 2
    assert [run.provenance["error"] for run in runs.failed] == ["RuntimeError: no luck"]


def test_impossible_runs_are_named(trainer) -> None:
    runs = normbench.sweep("norm=gn norm.args.num_groups=2,-1 invalid=skip model=mlp", quiet=True)
    assert len(runs) == 1
    assert "num_groups" in runs.skipped[0].provenance["error"]


def test_the_table_is_that_of_the_command_line(trainer, capsys: pytest.CaptureFixture[str]) -> None:
    runs = normbench.sweep(SWEEP, quiet=True)
    for options in ({}, {"rows": ["batch"], "cols": "norm"}, {"baseline": "bn"}, {"where": "batch=2"}):
        given = {
            name: value if isinstance(value, str) else ",".join(value) for name, value in options.items()
        }
        argv = [word for name, value in given.items() for word in (f"--{name}", value)]
        assert cli.run(["table", *SWEEP.split(), *argv, "--format", "md"]) == 0
        assert runs.table(**options).to_markdown() == capsys.readouterr().out


def test_a_table_shows_itself(trainer) -> None:
    table = normbench.sweep(SWEEP, quiet=True).table()
    assert "2.10 ± 0.10" in repr(table)
    assert "<th>bn</th><td>" in table._repr_html_()
    assert "2.10 ± 0.10" in table._repr_html_()


def test_html_never_holds_markup_of_a_label(trainer) -> None:
    normbench.sweep(["norm=bn", "tracking.tags=['<b>x']"], quiet=True)
    runs = normbench.runs()
    shown = runs.table(rows="tags", cols="norm")
    assert "<b>" not in runs._repr_html_()
    assert "<b>" not in shown._repr_html_()
    assert "&lt;b&gt;x" in shown._repr_html_()


def test_a_table_is_saved_by_its_suffix(trainer, tmp_path: Path) -> None:
    table = normbench.sweep(SWEEP, quiet=True).table()
    assert table.save(tmp_path / "t.tex").read_text() == table.to_latex()
    assert table.save(tmp_path / "t.csv").read_text() == table.to_csv()
    with pytest.raises(normbench.InputError, match=r"must end in \.md"):
        table.save(tmp_path / "t.pdf")


def test_runs_reads_only(trainer) -> None:
    with pytest.raises(normbench.InputError, match="none of the 12 runs"):
        normbench.runs(SWEEP)
    normbench.sweep("norm=bn,gn batch=2 seed=range(3)", quiet=True)
    trained = len(trainer.trained)
    runs = normbench.runs(SWEEP)
    assert (len(runs), len(runs.missing), len(trainer.trained)) == (6, 6, trained)
    assert {run.value("norm") for run in normbench.runs(where="norm=gn")} == {"gn"}
    assert len(normbench.runs(where=["norm=gn", "seed!=0"])) == 2
    with pytest.raises(normbench.InputError, match="no run has norm ln_c"):
        runs.where("norm=ln_c")


def test_runs_show_themselves(trainer) -> None:
    runs = normbench.sweep("norm=bn,gn seed=range(15)", quiet=True)
    text = repr(runs)
    assert text.count("norm=bn seed=") + text.count("norm=gn seed=") == 20
    assert "… and 10 more" in text
    assert "30 runs (30 complete)" in text
    assert runs._repr_html_().count("<tr>") == 21


def test_errors_are_exceptions_with_the_text_of_the_command_line(
    trainer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["train", "norm=bm"]) == 2
    with pytest.raises(normbench.InputError) as caught:
        normbench.sweep("norm=bm")
    assert capsys.readouterr().err == f"error: {' '.join(str(caught.value).split())}\n"
    with pytest.raises(normbench.InputError, match="No closing quotation"):
        normbench.sweep("norm='bn")
    with pytest.raises(normbench.InputError, match="words must be texts"):
        normbench.sweep([1])  # type: ignore[list-item]


def test_the_history_has_one_row_per_step_and_metric() -> None:
    runs = normbench.sweep(
        "model=mlp model.hidden=[8] norm=bn,gn steps=2 data.train_size=64 eval.every=1 engine.processes=1",
        quiet=True,
    )
    rows = runs.history("test_error")
    assert [(row["norm"], row["step"]) for row in rows] == [("bn", 1), ("bn", 2), ("gn", 1), ("gn", 2)]
    assert rows[-1]["value"] == runs[1].metrics["test_error"]
    assert {row["metric"] for row in runs.history(["lr", "test_loss"])} == {"lr", "test_loss"}


def test_a_frame_has_one_row_per_run(trainer) -> None:
    pytest.importorskip("pandas")
    frame = normbench.sweep(SWEEP, quiet=True).to_frame()
    assert frame.groupby(["norm", "batch"])["test_error"].mean()["bn", 4] == pytest.approx(0.041)
    assert frame.index.name == "run" and len(frame) == 12
    assert list(normbench.runs().to_frame(["norm.momentum", "seed"]).columns[:2]) == ["norm.momentum", "seed"]
    assert "optim.lr" in normbench.runs().to_frame("all")
    assert normbench.runs().table().to_frame()["n"].tolist() == [3, 3, 3, 3]


def test_a_frame_without_pandas_says_how_to_get_it(trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(normbench.InputError, match=r"pip install 'normbench\[pandas\]'"):
        normbench.sweep("norm=bn", quiet=True).to_frame()


def test_an_unknown_name_is_no_attribute() -> None:
    assert {"sweep", "runs"} <= {*dir(normbench)}
    with pytest.raises(AttributeError, match="no attribute 'sweped'"):
        normbench.sweped  # noqa: B018


def test_import_is_light() -> None:
    code = "import sys, normbench; print({'torch', 'hydra', 'numpy', 'pandas', 'rich'} & {*sys.modules})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
