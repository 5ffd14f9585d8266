"""Diagnostics by layer on a dashboard: series per layer and histograms."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from normbench.spec import TrackingSpec
from normbench.tracking.wandb_layers import layer_points
from normbench.tracking.wandb_runs import WandbRuns
from normbench.tracking.wandb_session import WandbSession

BINS = {"edges": [0.0, 0.5, 1.0], "counts": [3, 1]}
ROWS: tuple[dict[str, Any], ...] = (
    {"step": 40, "name": "affine_histogram/gamma", "layers": {"conv1": BINS}},
    {"step": 20, "name": "running_error/mean", "layers": {"conv1": 0.25, "conv2": None}},
    {"step": 40, "name": "running_error/mean", "layers": {"conv1": 0.125, "conv2": 0.5}},
    {"step": 40, "name": "mixing_weights/mean", "layers": {"fc1": [0.5, 0.25, 0.25]}},
)


def test_every_layer_is_a_series_and_a_histogram_is_wandbs_own() -> None:
    first, second = layer_points(ROWS, 8, lambda bins: ("histogram", *bins))
    assert first == {"images_seen": 160, "running_error_mean/conv1": 0.25}
    assert second == {
        "images_seen": 320,
        "affine_histogram_gamma/conv1": ("histogram", [3, 1], [0.0, 0.5, 1.0]),
        "running_error_mean/conv1": 0.125,
        "running_error_mean/conv2": 0.5,
        "mixing_weights_mean/fc1/0": 0.5,
        "mixing_weights_mean/fc1/1": 0.25,
        "mixing_weights_mean/fc1/2": 0.25,
    }


def test_a_run_gets_them_after_its_curve_and_a_run_without_gets_none(
    tracking: TrackingSpec, tmp_path: Path, fake: SimpleNamespace, make: SimpleNamespace
) -> None:
    session = WandbSession(tracking, tmp_path, [].append)
    for event in (make.started(workers=4), make.logged(step=40), make.ended("a", rows=ROWS), make.ended("b")):
        session.handle(event)
    session.finish_ended()
    a, b = fake.runs
    assert [point["images_seen"] for point in a.points] == [80, 160, 320]
    assert a.points[2]["affine_histogram_gamma/conv1"][0] == "histogram"
    assert (a.summary["status"], a.exit_code, len(b.points)) == ("complete", 0, 1)


def test_the_real_wandb_writes_them_offline(
    real: None, tracking: TrackingSpec, tmp_path: Path, make: SimpleNamespace, written: Any
) -> None:
    said: list[str] = []
    lane = "0123456789abcdef"
    observer = WandbRuns(tracking, tmp_path, said.append)
    for event in (make.started((lane,)), make.logged((lane,), step=40), make.ended(lane, rows=ROWS)):
        observer.notify(event)
    observer.close()
    assert said == []
    log = written(tmp_path)[lane]
    for text in ("running_error_mean/conv2", "affine_histogram_gamma/conv1", '"histogram"', "[0,0.5,1]"):
        assert text.encode() in log
