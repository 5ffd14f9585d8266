"""The real wandb, online, with a server on this machine."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from normbench.events import RunFound, SweepStarted
from normbench.spec import TrackingSpec
from normbench.tracking.sweep_summary import Summarize, SweepSummary
from normbench.tracking.wandb_runs import WandbRuns
from wandb_loopback import Server


def track(tracking: TrackingSpec, root: Path, *events: Any, summarize: Summarize | None = None) -> list[str]:
    """What is said while these events are tracked."""
    said: list[str] = []
    observer = WandbRuns(tracking, root, said.append, summarize)
    for event in events:
        observer.notify(event)
    observer.close()
    return said


def test_every_run_of_a_sweep_reaches_the_server(
    server: Server, tracking: TrackingSpec, tmp_path: Path, make: SimpleNamespace
) -> None:
    stack = make.mixed({"optim": {"lr": 0.1}}, {"optim": {"lr": 0.2}})
    ends = [make.ended(signature, test_error=0.125) for signature in stack.signatures]
    sweep = SweepStarted(2, 0, 1, 200, varying=("optim.lr",))
    assert track(tracking, tmp_path, sweep, stack, make.logged(stack.signatures, step=10), *ends) == []
    assert {run["displayName"] for run in server.runs.values()} == {
        "bn b2 lenet5 optim.lr=0.1 s0",
        "bn b2 lenet5 optim.lr=0.2 s0",
    }
    for signature in stack.signatures:
        assert (server.runs[signature]["project"], server.runs[signature]["tags"]) == ("p", ["t"])
        assert server.summaries[signature]["test_error"] == 0.125
        assert [point["step"] for point in server.history[signature]] == [10]


def test_the_summary_of_a_sweep_reaches_the_server(
    server: Server, tracking: TrackingSpec, tmp_path: Path, make: SimpleNamespace
) -> None:
    out = io.BytesIO()
    Image.new("RGB", (3, 2)).save(out, "png")
    rows = (("bn b2", 0.5, None), ("gn b2", 0.25, 0.125))
    made = SweepSummary(("cell", "mean", "sd"), rows, {"curve": out.getvalue()})
    ends = [make.ended(signature, test_error=0.5) for signature in "ab"]
    sweep = SweepStarted(2, 0, 1, 200, varying=("norm",))
    said = track(tracking, tmp_path, sweep, make.started(), *ends, summarize=lambda *words: made)
    assert said == []
    [summary] = [name for name in server.runs if name.startswith("summary-")]
    sent = server.runs[summary]
    assert (sent["displayName"], sent["jobType"], sent["project"]) == ("summary norm", "summary", "p")
    assert server.runs["a"]["groupName"].startswith("bn b2 lenet5")
    table = server.summaries[summary]["mean_and_sd"]
    assert (table["_type"], table["nrows"], table["ncols"]) == ("table-file", 2, 3)
    image = server.summaries[summary]["figures/curve"]
    assert (image["_type"], image["width"], image["height"]) == ("image-file", 3, 2)


def test_under_an_agent_the_server_gets_one_run_and_its_metric(
    agent: str, server: Server, tracking: TrackingSpec, tmp_path: Path, make: SimpleNamespace
) -> None:
    seeds = make.ended("a", test_error=0.25), make.ended("b", test_error=0.75)
    said = track(tracking, tmp_path, SweepStarted(2, 0, 1, 200), make.started(), make.logged(step=10), *seeds)
    assert [text for text in said if "agent" not in text] == []
    ((run, sent),) = server.runs.items()
    assert (run, sent["project"], sent["entity"], sent["sweep"]) == (agent, "theirs", "team", "s1")
    assert server.summaries[agent]["test_error"] == 0.5
    assert [point["train_loss"] for point in server.history[agent]] == [0.5]


def test_under_an_agent_a_finished_run_reaches_the_server_from_its_record(
    agent: str, server: Server, tracking: TrackingSpec, tmp_path: Path, make: SimpleNamespace
) -> None:
    record = replace(
        make.ended("a", test_error=0.25).record,
        spec=make.spec(0),
        history=({"step": 5.0, "train_loss": 2.0},),
    )
    assert track(tracking, tmp_path, RunFound(record)) == []
    assert list(server.runs) == [agent]
    assert server.summaries[agent]["test_error"] == 0.25
    assert [point["train_loss"] for point in server.history[agent]] == [2.0]


def test_a_resumed_run_is_one_run_with_one_curve(
    server: Server, tracking: TrackingSpec, tmp_path: Path, make: SimpleNamespace
) -> None:
    points = [make.logged(("a",), step=step) for step in (10, 20, 30)]
    track(tracking, tmp_path, make.started(("a",)), *points)  # interrupted: it has not ended
    assert server.exits["a"] == 1
    again = [make.logged(("a",), step=step) for step in (20, 30, 40)]  # its checkpoint was of step 10
    resumed = make.started(("a",), first_step=10)
    assert track(tracking, tmp_path, resumed, *again, make.ended("a", test_error=0.5)) == []
    assert server.opened == ["a", "a"]
    assert server.steps("a") == [10, 20, 30, 40]
    assert (server.exits["a"], server.summaries["a"]["test_error"]) == (0, 0.5)


def test_a_run_that_resumed_offline_is_one_curve_after_wandb_sync(
    server: Server,
    tracking: TrackingSpec,
    tmp_path: Path,
    make: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    track(tracking, tmp_path, make.started(("a",)), *[make.logged(("a",), step=step) for step in (10, 20)])
    again = [make.logged(("a",), step=step) for step in (20, 30)]
    track(tracking, tmp_path, make.started(("a",), first_step=10), *again, make.ended("a", test_error=0.5))
    import wandb

    wandb.teardown()
    monkeypatch.delenv("WANDB_MODE")
    folders = sorted(str(folder) for folder in tmp_path.glob("wandb/offline-run-*"))
    assert len(folders) == 2
    subprocess.run([sys.executable, "-m", "wandb", "sync", *folders], capture_output=True, check=True)
    assert server.steps("a") == [10, 20, 30]
    assert not list(tmp_path.glob("wandb/steps/*"))  # the run has ended
