"""The real wandb, offline, without a network."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from normbench.spec import TrackingSpec
from normbench.tracking.wandb_runs import WandbRuns

LANES = ("0123456789abcdef", "123456789abcdef0", "23456789abcdef01")


@pytest.fixture
def real(no_credentials: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody answers there
    yield
    end_wandb()
    os.environ.pop("WANDB_SERVICE", None)


def end_wandb() -> None:
    """As at the end of the process: wandb's own one writes what it still holds, and ends."""
    import wandb

    wandb.teardown()


def folders(root: Path) -> dict[str, Path]:
    return {folder.name.rpartition("-")[2]: folder for folder in root.glob("wandb/offline-run-*")}


def test_three_lanes_are_three_runs_alive_at_the_same_time(
    real: None, tracking: TrackingSpec, tmp_path: Path, make: SimpleNamespace
) -> None:
    said: list[str] = []
    observer = WandbRuns(tracking, tmp_path, said.append)
    observer.notify(make.started(LANES))
    observer.notify(make.logged(LANES, step=10))
    deadline = time.monotonic() + 60
    while len(folders(tmp_path)) < len(LANES) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert set(folders(tmp_path)) == set(LANES)  # none has ended yet
    for lane in LANES:
        observer.notify(make.ended(lane, test_error=0.125))
    observer.close()
    end_wandb()
    assert said == []
    for seed, lane in enumerate(LANES):
        (log,) = folders(tmp_path)[lane].glob("*.wandb")
        stored = log.read_bytes()
        for text in (
            f"bn b2 lenet5 s{seed}",
            "lenet5",
            "train_loss",
            "images_seen",
            "test_error",
            "0.125",
            "complete",
        ):
            assert text.encode() in stored
