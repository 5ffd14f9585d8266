"""The CSV tracker: one long-form file per sweep that holds every run once and whole."""

from __future__ import annotations

import csv
import json
from collections import Counter
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from normbench import events
from normbench.cli import run
from normbench.record import Record
from normbench.store import Store
from normbench.tracking.csv_file import CsvFile

NOON = datetime(2026, 1, 2, 12, 30, 5)


class Sweep:
    """A CSV tracker, what it said, and the store that it reads."""

    def __init__(self, root: Path, make: SimpleNamespace) -> None:
        self.root, self.make, self.said = root, make, list[str]()
        self.observer = CsvFile(root, self.said.append, lambda: NOON)

    def record(self, signature: str, norm: str = "bn", seed: int = 0, **metrics: float | None) -> Record:
        """The record of a run whose curve of two points is in the store."""
        folder = Store(self.root).run_folder(signature)
        folder.mkdir(parents=True, exist_ok=True)
        points = [{"step": 5.0, "train_loss": 2.0, "test_error": None}, {"step": 10.0, "train_loss": 1.5}]
        (folder / "history.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points))
        spec = self.make.spec(seed, norm={"name": norm})
        return Record(signature, spec, "complete", {"test_error": 0.25} | metrics, {"train_s": 3.0}, {}, {})

    def start(self, *varying: str) -> None:
        self.observer.notify(events.SweepStarted(2, 0, 1, 20, varying=varying))

    def rows(self) -> list[dict[str, Any]]:
        [file] = (self.root / "csv").iterdir()
        with file.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))


@pytest.fixture
def sweep(tmp_path: Path, make: SimpleNamespace) -> Sweep:
    return Sweep(tmp_path / "results", make)


def test_a_run_is_its_curve_then_its_final_numbers(sweep: Sweep) -> None:
    sweep.start("norm")
    sweep.observer.notify(events.RunEnded(sweep.record("aa", "gn", seed=3, test_loss=None)))
    sweep.observer.close()
    assert [list(row.values()) for row in sweep.rows()] == [
        ["aa", "gn", "3", "5", "train_loss", "2.0"],
        ["aa", "gn", "3", "10", "train_loss", "1.5"],
        ["aa", "gn", "3", "10", "train_s", "3.0"],
        ["aa", "gn", "3", "10", "test_error", "0.25"],
    ]
    assert list(sweep.rows()[0]) == ["run", "norm", "seed", "step", "metric", "value"]


def test_the_file_is_named_by_time_and_settings_and_is_named_at_the_end(sweep: Sweep) -> None:
    sweep.start("norm", "optim.lr")
    sweep.observer.notify(events.RunEnded(sweep.record("aa")))
    assert sweep.said == []
    sweep.observer.close()
    file = sweep.root / "csv" / "2026-01-02T123005-norm-optim.lr.csv"
    assert sweep.said == [f"curves and results: {file}"]
    assert {row["optim.lr"] for row in sweep.rows()} == {""}  # the run does not have it


def test_a_file_that_exists_is_never_overwritten(sweep: Sweep) -> None:
    for _ in range(3):
        sweep.start("norm")
        sweep.observer.notify(events.RunEnded(sweep.record("aa")))
        sweep.observer.close()
        sweep.observer = CsvFile(sweep.root, sweep.said.append, lambda: NOON)
    names = sorted(file.name for file in (sweep.root / "csv").iterdir())
    stem = "2026-01-02T123005-norm"
    assert names == [f"{stem}-2.csv", f"{stem}-3.csv", f"{stem}.csv"]


def test_points_are_not_doubled_by_live_points_and_later_metrics(sweep: Sweep) -> None:
    record = sweep.record("aa")
    more = Record("aa", record.spec, "complete", {**record.metrics, "nll": 0.5}, record.timing, {}, {})
    sweep.start("norm")
    for event in (
        sweep.make.started(("aa",)),
        sweep.make.logged(("aa",), step=5),
        events.StackSplit(("aa",), "out of memory"),
        events.RunEnded(record),
        events.RunEvaluated(more, ("nll",)),
    ):
        sweep.observer.notify(event)
    sweep.observer.close()
    found = Counter((row["step"], row["metric"]) for row in sweep.rows())
    assert set(found.values()) == {1}
    assert ("10", "nll") in found


def test_runs_that_were_finished_before_are_in_the_file_too(sweep: Sweep) -> None:
    sweep.start("norm")
    sweep.observer.notify(events.RunFound(sweep.record("aa", "bn")))
    sweep.observer.notify(events.RunEnded(sweep.record("bb", "gn")))
    sweep.observer.close()
    assert {(row["run"], row["norm"]) for row in sweep.rows()} == {("aa", "bn"), ("bb", "gn")}


def test_a_sweep_that_has_nothing_to_train_is_written_at_the_end(sweep: Sweep) -> None:
    for signature, norm in (("aa", "bn"), ("bb", "gn")):
        sweep.observer.notify(events.RunFound(sweep.record(signature, norm)))
    assert not (sweep.root / "csv").exists()
    sweep.observer.close()
    assert {(row["run"], row["norm"]) for row in sweep.rows()} == {("aa", "bn"), ("bb", "gn")}


def test_without_runs_there_is_no_file(sweep: Sweep) -> None:
    sweep.start("norm")
    sweep.observer.close()
    assert not (sweep.root / "csv").exists()
    assert sweep.said == []


def test_a_disk_that_refuses_is_said_once_and_training_goes_on(sweep: Sweep) -> None:
    said: list[str] = []
    listener = SimpleNamespace(
        notify=lambda event: said.append(event.text) if isinstance(event, events.Notice) else None,
        close=lambda: None,
    )
    sweep.root.mkdir()
    (sweep.root / "csv").write_text("a file is in the way")
    announcer = events.Announcer([sweep.observer, listener])
    announcer.notify(events.SweepStarted(2, 0, 1, 20, varying=("norm",)))
    for signature in ("aa", "bb"):
        announcer.notify(events.RunEnded(sweep.record(signature)))
    announcer.close()
    [text] = said
    assert text.startswith("CsvFile stopped: FileExistsError")


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a small sweep that was really trained."""
    monkeypatch.setenv("NORMBENCH_RESULTS", str(tmp_path))
    words = ["model=mlp", "data=synthetic", "data.train_size=64", "data.test_size=32", "steps=4", "batch=8"]
    assert run(["train", *words, "tracking=csv", "norm=bn,ln_c", "seed=0,1", "engine.processes=1"]) == 0
    [file] = (tmp_path / "csv").iterdir()
    return file


def test_a_real_sweep_is_one_file_with_the_numbers_of_its_records(tmp_path: Path, trained: Path) -> None:
    with trained.open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["metric"] == "test_error"]
    found = {(row["norm"], int(row["seed"])): float(row["value"]) for row in rows}
    records = Store(tmp_path).records()
    assert found == {(r.spec["norm"]["name"], r.spec["seed"]): r.metrics["test_error"] for r in records}
    assert len(rows) == 4


def test_pandas_reads_the_file(trained: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.read_csv(trained)
    assert frame["value"].dtype == float
    assert frame["step"].dtype == int
    assert set(frame["norm"]) == {"bn", "ln_c"}
