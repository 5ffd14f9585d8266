"""The TensorBoard tracker: one folder per run, live, with its settings and final metrics."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from normbench import events
from normbench.cli import run
from normbench.record import Record
from normbench.store import Store
from normbench.tracking import tensorboard_runs
from normbench.tracking.tensorboard_runs import TensorboardRuns

pytest.importorskip("tensorboard", reason="tensorboard is not installed: pip install '.[tensorboard]'")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own imports
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils import tensorboard as _  # noqa: F401

NAMES = ("aaaaaaaaaa", "bbbbbbbbbb")


def curves(root: Path) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Seed and signature → metric → (step, value), as TensorBoard reads them."""
    found = {}
    for folder in sorted((root / "tensorboard").iterdir()):
        read = EventAccumulator(str(folder)).Reload()
        found["_".join(folder.name.split("_")[-2:])] = {
            tag: [(point.step, round(point.value, 6)) for point in read.Scalars(tag)]
            for tag in read.Tags()["scalars"]
        }
    return found


def record(root: Path, make: SimpleNamespace, signature: str, seed: int = 0, **metrics: float) -> Record:
    """The record of a run with a curve of two points in the store."""
    folder = Store(root).run_folder(signature)
    folder.mkdir(parents=True, exist_ok=True)
    points = [{"step": float(step), "images_seen": 2 * step, "train_loss": 0.5} for step in (10, 20)]
    (folder / "history.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points))
    return Record(signature, make.spec(seed), "complete", metrics, {}, {}, {})


def tell(observer: TensorboardRuns, *news: events.Event) -> None:
    for event in news:
        observer.notify(event)
    observer.close()


def test_curves_are_written_while_a_run_trains_and_final_numbers_at_its_end(
    tmp_path: Path, make: SimpleNamespace
) -> None:
    observer = TensorboardRuns(tmp_path)
    for event in (make.started(NAMES), make.logged(NAMES, step=10), make.logged(NAMES, step=20)):
        observer.notify(event)
    live = list((tmp_path / "tensorboard").iterdir())
    assert len(live) == 2  # neither has ended
    tell(observer, events.RunEnded(record(tmp_path, make, NAMES[0], **{"test_error@batch": 0.25})))
    found = curves(tmp_path)
    assert found["s0_aaaaaaaa"]["train_loss"] == [(10, 0.5), (20, 0.5)]
    assert found["s0_aaaaaaaa"]["test_error_batch"] == [(20, 0.25)]
    assert found["s1_bbbbbbbb"]["train_loss"] == [(10, 0.5), (20, 0.5)]
    assert "test_error_batch" not in found["s1_bbbbbbbb"]


def test_the_settings_are_hyperparameters(tmp_path: Path, make: SimpleNamespace) -> None:
    observer = TensorboardRuns(tmp_path)
    tell(observer, make.started(NAMES[:1]), events.RunEnded(record(tmp_path, make, NAMES[0], test_error=0.5)))
    [folder] = (tmp_path / "tensorboard").iterdir()
    assert folder.name == "bn_b2_lenet5_norm.momentum_0.1_s0_aaaaaaaa"
    content = EventAccumulator(str(folder)).Reload().summary_metadata
    assert "_hparams_/session_start_info" in content
    text = content["_hparams_/session_start_info"].plugin_data.content
    assert b"norm.momentum" in text
    assert b"seed" in text


def test_points_after_a_split_are_written_once(tmp_path: Path, make: SimpleNamespace) -> None:
    news: list[Any] = [make.started(NAMES), make.logged(NAMES, step=10)]
    news += [events.StackSplit(NAMES, "out of memory"), make.started(NAMES[:1])]
    news += [make.logged(NAMES[:1], step=step) for step in (10, 20)]
    tell(TensorboardRuns(tmp_path), *news)
    assert curves(tmp_path)["s0_aaaaaaaa"]["train_loss"] == [(10, 0.5), (20, 0.5)]


def test_a_resumed_run_keeps_the_points_before_and_drops_those_it_repeats(
    tmp_path: Path, make: SimpleNamespace
) -> None:
    tell(TensorboardRuns(tmp_path), make.started(NAMES), *(make.logged(NAMES, step=s) for s in (10, 20, 30)))
    tell(
        TensorboardRuns(tmp_path),
        make.started(NAMES, first_step=20),
        make.logged(NAMES, step=30, train_loss=9.0),
    )
    assert curves(tmp_path)["s0_aaaaaaaa"]["train_loss"] == [(10, 0.5), (20, 0.5), (30, 9.0)]


def test_runs_beyond_the_limit_are_written_when_they_end(tmp_path: Path, make: SimpleNamespace) -> None:
    observer = TensorboardRuns(tmp_path, most_live=1)
    for event in (make.started(NAMES), make.logged(NAMES, step=10)):
        observer.notify(event)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
    tell(observer, events.RunEnded(record(tmp_path, make, NAMES[1], seed=1, test_error=0.5)))
    assert curves(tmp_path)["s1_bbbbbbbb"]["train_loss"] == [(10, 0.5), (20, 0.5)]


def test_a_run_that_was_finished_before_is_written_once(tmp_path: Path, make: SimpleNamespace) -> None:
    found = events.RunFound(record(tmp_path, make, NAMES[0], test_error=0.5))
    tell(TensorboardRuns(tmp_path), found)
    [folder] = (tmp_path / "tensorboard").iterdir()
    tell(TensorboardRuns(tmp_path), found)
    assert len(list(folder.iterdir())) == 1
    assert curves(tmp_path)["s0_aaaaaaaa"]["test_error"] == [(20, 0.5)]


def test_a_disk_that_refuses_harms_no_run(tmp_path: Path, make: SimpleNamespace, capsys: Any) -> None:
    (tmp_path / "tensorboard").write_text("a file is in the way")
    announcer = events.Announcer([TensorboardRuns(tmp_path)])
    announcer.notify(make.started(NAMES))
    announcer.notify(make.logged(NAMES, step=10))
    announcer.close()
    assert capsys.readouterr().err.startswith("TensorboardRuns stopped: ")


def test_a_missing_package_stops_the_command_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(tensorboard_runs, "find_spec", lambda name: None)
    monkeypatch.setenv("NORMBENCH_RESULTS", str(tmp_path / "results"))
    assert run(["train", "tracking=tensorboard", "steps=4"]) == 2
    assert capsys.readouterr().err == (
        "error: tracking=tensorboard needs the package tensorboard: pip install 'normbench[tensorboard]'\n"
    )
    assert not (tmp_path / "results" / "runs").exists()
