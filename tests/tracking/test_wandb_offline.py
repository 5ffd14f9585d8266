"""The real wandb, offline, without a network."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from normbench.spec import TrackingSpec
from normbench.tracking.wandb_runs import WandbRuns

LANES = ("0123456789abcdef", "123456789abcdef0", "23456789abcdef01")


def folders(root: Path) -> dict[str, Path]:
    return {folder.name.rpartition("-")[2]: folder for folder in root.glob("wandb/offline-run-*")}


def test_three_lanes_are_three_runs_alive_at_the_same_time(
    real: None, tracking: TrackingSpec, tmp_path: Path, make: SimpleNamespace, written: Any
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
    logs = written(tmp_path)
    assert said == []
    for seed, lane in enumerate(LANES):
        for text in (
            f"bn b2 lenet5 s{seed}",
            "lenet5",
            "train_loss",
            "images_seen",
            "test_error",
            "0.125",
            "complete",
        ):
            assert text.encode() in logs[lane]
