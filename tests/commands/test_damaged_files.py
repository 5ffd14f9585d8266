"""One bad file in the store never stops a command: it is set aside and named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from normbench import cli
from normbench.record import Record
from normbench.record_checks import fault, is_number, lack
from normbench.store import Store

Capture = pytest.CaptureFixture[str]

#: What is written over a place of a record, and what is said of it.
DAMAGE = [
    ("metrics.test_error", [0.1], "metric test_error must be a finite number or null"),
    ("metrics.test_error", float("nan"), "metric test_error must be a finite number or null"),
    ("metrics.test_error", float("inf"), "metric test_error must be a finite number or null"),
    ("metrics.test_error", True, "metric test_error must be a finite number or null"),
    ("metrics.test_error", "0.1", "metric test_error must be a finite number or null"),
    ("metrics.test_error", 10**400, "metric test_error must be a finite number or null"),
    ("metrics", [], "metrics must be mappings"),
    ("timing.train_s", None, "timing.train_s must be a finite number"),
    ("timing.train_s", "long", "timing.train_s must be a finite number"),
    ("timing", None, "timing must be mappings"),
    ("environment", "cpu", "environment must be mappings"),
    ("spec", {}, "spec.model must be a mapping with a name"),
    ("spec.norm", {}, "spec.norm must be a mapping with a name"),
    ("spec.norm", "bn", "spec.norm must be a mapping with a name"),
    ("spec.data", {}, "spec.data must be a mapping with a name"),
    ("spec.data.name", None, "spec.data must be a mapping with a name"),
    ("spec.norm.args", [], "spec.norm.args must be a mapping"),
    ("spec.seed", "0", "spec.seed must be a whole number"),
    ("spec.seed", float("nan"), "spec.seed must be a whole number"),
    ("spec.batch", [2], "spec.batch must be a whole number"),
    ("spec.workers", 0, "spec.workers must be a whole number"),
    ("spec.optim.lr", float("nan"), "spec.optim.lr must be a finite number"),
    ("spec.model.hidden", [1, float("inf")], "spec.model.hidden.1 must be a finite number"),
    ("status", ["complete"], "it has the unknown status"),
    ("signature", None, "it has no signature"),
]


def damage(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, leaf = path.split(".")
    for parent in parents:
        tree = tree[parent]
    tree[leaf] = value


@pytest.fixture
def pair(trainer, make_sweep) -> tuple[str, str]:
    """The signatures of two finished runs, bn and gn."""
    specs = [resolved.spec for resolved in make_sweep("norm=bn,gn")]
    for spec in specs:
        Store.default().put(trainer._record(spec))
    return specs[0].signature, specs[1].signature


def spoil(signature: str, path: str, value: Any) -> None:
    """Write a value over a place of a record on disk."""
    file = Store.default().run_folder(signature) / "record.json"
    tree = json.loads(file.read_text(encoding="utf-8"))
    damage(tree, path, value)
    file.write_text(json.dumps(tree), encoding="utf-8")


@pytest.mark.parametrize(
    ("path", "value", "text"), DAMAGE, ids=[f"{path}={str(value)[:9]}" for path, value, _ in DAMAGE]
)
def test_a_record_with_a_fault_is_set_aside_and_named(
    path: str, value: Any, text: str, pair: tuple[str, str], capsys: Capture
) -> None:
    bad, good = pair
    spoil(bad, path, value)
    assert cli.run(["table", "--format", "json"]) == 0
    said = capsys.readouterr()
    assert [cell["runs"] for cell in json.loads(said.out)["cells"]] == [[good]]
    assert text in said.err
    assert bad in said.err
    assert len(said.err.splitlines()) == 1
    assert cli.run(["info", bad]) in (0, 2)
    assert "unexpected" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "value"), [("metrics.test_error", [0.1]), ("spec.norm", {}), ("timing", None)]
)
def test_a_run_with_a_damaged_record_is_trained_again(
    path: str, value: Any, pair: tuple[str, str], trainer, capsys: Capture
) -> None:
    spoil(pair[0], path, value)
    assert cli.run(["train", "norm=bn,gn"]) == 0
    assert [spec.signature for spec in trainer.trained] == [pair[0]]
    assert f"{pair[0]}/record.json" in capsys.readouterr().err
    assert len(Store.default().records()) == 2


@pytest.mark.parametrize(
    "line",
    ['{"step": 1', "[1]", "1", '"x"', "null", '{"step": "x"}', '{"step": [1]}', '{"step": NaN}', "[" * 9999],
)
def test_a_torn_line_of_history_is_left_out_and_named(
    line: str, pair: tuple[str, str], capsys: Capture
) -> None:
    file = Store.default().run_folder(pair[0]) / "history.jsonl"
    file.write_text('{"step": 100, "train_loss": null}\n' + line + "\n", encoding="utf-8")
    for words in (["info", pair[0]], ["table"]):
        assert cli.run(words) == 0
    said = capsys.readouterr()
    assert "line 2 is not a point of a curve" in said.err
    assert "running statistics" in said.out
    assert Store.default().history(pair[0]) == ({"step": 100, "train_loss": None},)


@pytest.mark.parametrize(
    ("key", "value"), [("name", "method_of_a_plugin"), ("momentum", [1]), ("momentum", "fast")]
)
def test_info_shows_a_run_that_this_version_cannot_repeat(
    key: str, value: Any, pair: tuple[str, str], capsys: Capture
) -> None:
    spoil(pair[0], f"spec.norm.{key}", value)
    folder = Store.default().run_folder(pair[0])
    (folder / "history.jsonl").write_text('{"step": 100}\n', encoding="utf-8")
    assert cli.run(["info", str(folder)]) == 0
    assert "rerun" in capsys.readouterr().out


def test_an_estimate_passes_over_records_without_times(pair: tuple[str, str]) -> None:
    for signature in pair:
        spoil(signature, "timing", {"steps_per_s": 5.0, "train_s": 1.0, "stack_s": 1.0})
    spoil(pair[0], "provenance", {})
    spoil(pair[1], "timing", {"steps_per_s": 5.0})
    assert cli.run(["plan", "norm=bn,gn", "seed=1"]) == 0


def test_a_record_as_it_is_written_has_no_fault(pair: tuple[str, str]) -> None:
    assert [lack(record.spec) for record in Store.default().records()] == [None, None]


def test_a_specification_without_a_group_is_refused_only_if_it_must_be_whole(tmp_path: Path) -> None:
    record = Record("0" * 16, {"batch": 2}, "complete", {}, {}, {}, {})
    assert fault(record.spec, record.timing) is None
    assert lack(record.spec) == "spec.model must be a mapping with a name"


@pytest.mark.parametrize("value", [True, "1", [1], {}, float("nan"), float("-inf"), 10**400])
def test_only_finite_numbers_are_numbers(value: Any) -> None:
    assert not is_number(value)
    assert is_number(0)
    assert is_number(-1e300)
