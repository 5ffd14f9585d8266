"""The fields in which runs differ, with the names of the command line."""

from __future__ import annotations

from typing import Any

import pytest

from normbench.labels import field, label, settings, varying


def norm(name: str, momentum: float | None = None, **args: Any) -> dict[str, Any]:
    return {"norm": {"name": name, "momentum": momentum, "args": args}, "batch": 8, "workers": 1}


def test_a_knob_that_the_choice_determines_is_left_out() -> None:
    assert varying([norm("bn", 0.1), norm("gn")]) == ["norm"]


def test_a_knob_that_differs_within_one_choice_is_named_with_the_choice() -> None:
    assert varying([norm("bn", 0.1), norm("bn", 0.9), norm("gn")]) == ["norm.momentum", "norm"]


def test_an_argument_is_one_difference_and_not_two() -> None:
    assert varying([norm("gn"), norm("gn", groups=2)]) == ["norm.args.groups"]


def test_workers_are_left_out_only_if_all_runs_have_one_total() -> None:
    assert varying([{"batch": 2, "workers": 4}, {"batch": 8, "workers": 1}]) == ["batch"]
    assert varying([{"batch": 2, "workers": 1}, {"batch": 4, "workers": 2}]) == ["batch", "workers"]
    assert varying([{"batch": 2, "workers": 4}, {"batch": 2, "workers": 1}]) == ["workers"]


@pytest.mark.parametrize(
    ("group", "here", "there"),
    [
        ("data", {"root": "/a"}, {"root": "/b"}),
        ("data", {"path": "/a", "fingerprint": "f"}, {"path": "/b", "fingerprint": "f"}),
        ("engine", {"lanes": "auto"}, {"lanes": 4}),
        ("tracking", {"tags": ["x"]}, {"tags": []}),
        ("eval", {"every": 10}, {"every": None}),
        ("keep_weights", "auto", True),
        ("neutral", {"model.branch": "plain"}, {}),
    ],
)
def test_location_and_computation_are_not_differences(
    group: str, here: dict[str, Any], there: dict[str, Any]
) -> None:
    assert varying([{group: here, "seed": 0}, {group: there, "seed": 1}]) == []


def test_folders_with_different_images_are_named_by_their_path() -> None:
    specs = [{"data": {"name": "folder", "path": path, "fingerprint": path * 2}} for path in ("/a", "/b")]
    assert varying(specs) == ["data.path"]


def test_the_precision_is_a_difference() -> None:
    assert varying([{"engine": {"precision": p, "lanes": 1}} for p in ("fp32", "fp64")]) == [
        "engine.precision"
    ]


def test_settings_are_written_as_on_the_command_line() -> None:
    assert (
        settings(norm("bn", 0.1), ["norm.momentum", "norm", "batch"]) == "norm.momentum=0.1 norm=bn batch=8"
    )
    assert settings(norm("gn"), ["norm.momentum", "norm"]) == "norm=gn"


def test_a_field_is_found_by_its_dotted_name() -> None:
    spec = norm("gn", groups=2)
    assert [field(spec, key) for key in ("norm", "norm.args.groups", "total", "norm.args.x", "batch.x")] == [
        "gn", 2, 8, None, None,
    ]  # fmt: skip


def test_labels_are_text() -> None:
    assert [label(v) for v in (None, False, 1.0, 1e-05, (2, 3))] == ["–", "false", "1", "1e-05", "2-3"]


def test_the_version_of_a_choice_is_no_difference_of_its_own() -> None:
    """Else plans, progress lines and tables would show `numerics.schedule` beside `schedule`."""
    constant = {"schedule": {"name": "constant"}, "numerics": {}}
    step = {"schedule": {"name": "step"}, "numerics": {"schedule": 2}}
    assert varying([constant, step]) == ["schedule"]
    assert varying([step, {**step, "numerics": {"schedule": 3}}]) == ["numerics.schedule"]
