"""The observer for wandb: `notify` never waits, no result is lost, `close` takes a bounded time."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from threading import Event, current_thread, get_ident
from types import SimpleNamespace

import pytest

from normbench.events import Notice, SweepStarted
from normbench.spec import TrackingSpec
from normbench.tracking.wandb_runs import WandbRuns


def test_events_reach_wandb_on_a_background_thread(
    tracking: TrackingSpec, tmp_path: Path, make: SimpleNamespace, fake: SimpleNamespace
) -> None:
    threads = set()
    fake.fail["log"] = lambda: threads.add(current_thread().name)
    observer = WandbRuns(tracking, tmp_path, lambda text: None)
    for event in (make.started(), make.logged(step=10), make.ended("a"), make.ended("b")):
        observer.notify(event)
    observer.close()
    assert threads == {"normbench-wandb"}
    assert [(len(run.points), run.exit_code) for run in fake.runs] == [(1, 0), (1, 0)]


def test_wandb_is_not_imported_before_a_stack_starts(
    tracking: TrackingSpec, tmp_path: Path, make: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    said: list[str] = []
    observer = WandbRuns(tracking, tmp_path, said.append)
    for event in (SweepStarted(2, 2, 0, 0), Notice("hello"), make.ended("a")):
        observer.notify(event)
    observer.close()
    assert said == []


def test_a_hanging_wandb_neither_stops_events_nor_the_end(
    tracking: TrackingSpec, tmp_path: Path, make: SimpleNamespace, fake: SimpleNamespace
) -> None:
    release = Event()
    fake.fail["init"] = lambda: release.wait(30)
    said: list[str] = []
    observer = WandbRuns(tracking, tmp_path, said.append, close_timeout=0.2)
    begin = time.monotonic()
    observer.notify(make.started())
    for step in range(1000):
        observer.notify(make.logged(step=step))
    observer.notify(make.ended("a"))
    observer.close()
    took = time.monotonic() - begin
    release.set()
    assert took < 10  # the hang alone is 30 s
    assert said[-1].startswith("wandb did not finish within")
    assert "the local records are complete" in said[-1]


def test_a_wandb_that_raises_is_said_once_and_events_go_on(
    tracking: TrackingSpec, tmp_path: Path, make: SimpleNamespace, fake: SimpleNamespace
) -> None:
    fake.fail["log"] = ConnectionResetError("Connection lost")
    said: list[str] = []
    observer = WandbRuns(tracking, tmp_path, said.append)
    observer.notify(make.started())
    for step in range(100):
        observer.notify(make.logged(step=step))
    observer.close()
    assert [text for text in said if "ConnectionResetError" in text] == [said[-1]]


def test_if_the_queue_is_full_points_are_dropped_and_results_are_kept(
    tracking: TrackingSpec, tmp_path: Path, make: SimpleNamespace, fake: SimpleNamespace
) -> None:
    busy, go_on = Event(), Event()

    def wait() -> None:
        busy.set()
        go_on.wait(30)

    fake.fail["init"] = wait
    said: list[str] = []
    observer = WandbRuns(tracking, tmp_path, said.append, max_points=20)
    observer.notify(make.started())
    assert busy.wait(30)
    for step in range(1, 101):
        observer.notify(make.logged(step=step))  # two lanes: two points
    observer.notify(make.ended("a", test_error=0.1))
    observer.notify(make.ended("b", test_error=0.2))
    go_on.set()
    observer.close()
    assert [[p["step"] for p in run.points] for run in fake.runs] == 2 * [list(range(1, 11))]
    assert [run.summary["test_error"] for run in fake.runs] == [0.1, 0.2]
    assert len([text for text in said if "too slow" in text]) == 1


def test_notices_are_delivered_on_the_callers_thread(
    tracking: TrackingSpec, tmp_path: Path, make: SimpleNamespace, fake: SimpleNamespace
) -> None:
    threads: set[int] = set()
    observer = WandbRuns(tracking, tmp_path, lambda text: threads.add(get_ident()))
    observer.notify(make.started())
    observer.close()
    assert threads == {get_ident()}


def test_closing_twice_or_without_a_stack_does_nothing(
    tracking: TrackingSpec, tmp_path: Path, make: SimpleNamespace, fake: SimpleNamespace
) -> None:
    WandbRuns(tracking, tmp_path, lambda text: None).close()
    observer = WandbRuns(tracking, tmp_path, lambda text: None)
    observer.notify(make.started())
    observer.close()
    observer.close()
    observer.notify(make.started(("c",)))
    assert [run.arguments["id"] for run in fake.runs] == ["a", "b"]


def test_how_to_upload_is_said_once(
    tracking: TrackingSpec,
    tmp_path: Path,
    make: SimpleNamespace,
    fake: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    release = Event()
    fake.fail["init online"] = RuntimeError("Timed out")
    fake.fail["init offline"] = lambda: release.wait(30)
    said: list[str] = []
    observer = WandbRuns(tracking, tmp_path, said.append, close_timeout=0.2)
    observer.notify(make.started())
    observer.close()
    release.set()
    (text,) = said
    assert text.startswith(
        "wandb works offline from now on (RuntimeError: Timed out). To upload: normbench sync"
    )
