"""The store: what is written and read, damaged files, crashes, and results that are added later."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from normbench.errors import InputError, RunFailure
from normbench.files import write_atomically
from normbench.paths import without
from normbench.record import Addition, Record
from normbench.run_folder import check_places
from normbench.spec import RunSpec, neutral_fields
from normbench.store import Store

SIGNATURE = "ab12cd34ef567890"


def record(signature: str = SIGNATURE, status: str = "complete", test_error: float = 0.02) -> Record:
    return Record(
        signature=signature,
        spec={"norm": {"name": "bn"}, "batch": 2, "seed": 0},
        status=status,
        metrics={"test_error": test_error, "steps_to_0.01": None},
        timing={"train_s": 1.0},
        environment={"device": "cpu"},
        provenance={"lanes": 1},
        history=({"step": 1.0, "train_loss": 2.3}, {"step": 2.0, "train_loss": None}),
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def contents(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


# Writing and reading


def test_a_record_is_read_as_it_was_written(store: Store) -> None:
    store.put(record())
    assert store.get(SIGNATURE) == record()
    assert store.records() == [record()]
    assert store.history(SIGNATURE) == record().history
    assert store.damaged == []


def test_the_files_are_the_documented_ones(store: Store) -> None:
    store.put(record())
    folder = f"runs/ab/{SIGNATURE}"
    assert contents(store.root) == [f"{folder}/{n}" for n in ("config.yaml", "history.jsonl", "record.json")]
    assert yaml.safe_load((store.run_folder(SIGNATURE) / "config.yaml").read_text()) == record().spec


def test_the_record_is_written_last(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    renamed: list[str] = []
    rename, link = os.replace, os.link
    monkeypatch.setattr(os, "replace", lambda a, b: (renamed.append(Path(b).name), rename(a, b)))
    monkeypatch.setattr(os, "link", lambda a, b: (renamed.append(Path(b).name), link(a, b)))
    store.put(record(status="failed"), error="boom")
    assert renamed == ["history.jsonl", "config.yaml", "error.txt", "record.json"]


def test_a_store_creates_nothing_before_the_first_put(store: Store) -> None:
    assert store.get(SIGNATURE) is None
    assert store.records() == []
    assert store.history(SIGNATURE) == ()
    assert store.finished([SIGNATURE]) == set()
    assert not store.root.exists()


def test_records_are_sorted_by_signature(store: Store) -> None:
    signatures = ["ff00000000000000", "0a00000000000000", "ab00000000000000"]
    for signature in signatures:
        store.put(record(signature))
    assert [kept.signature for kept in store.records()] == sorted(signatures)


def test_diverged_runs_are_finished_and_failed_runs_are_not(store: Store) -> None:
    by_status = {"complete": "aa00000000000000", "diverged": "bb00000000000000", "failed": "cc00000000000000"}
    for status, signature in by_status.items():
        store.put(record(signature, status))
    asked = [*by_status.values(), "dd00000000000000"]
    assert store.finished(asked) == {by_status["complete"], by_status["diverged"]}


def test_error_txt_is_kept_until_the_run_succeeds(store: Store) -> None:
    reason = store.run_folder(SIGNATURE) / "error.txt"
    store.put(record(status="failed"), error="out of memory")
    assert reason.read_text() == "out of memory\n"
    store.put(record())
    assert not reason.exists()


def test_a_failed_record_never_replaces_a_result(store: Store) -> None:
    store.put(record())
    store.put(record(status="failed"), error="a second process broke")
    assert store.get(SIGNATURE) == record()
    assert not (store.run_folder(SIGNATURE) / "error.txt").exists()


def test_a_result_deletes_the_checkpoint_and_a_failure_keeps_it(store: Store) -> None:
    folder = store.run_folder(SIGNATURE)
    folder.mkdir(parents=True)
    names = ["checkpoint.pt", "checkpoint.json", "checkpoint-set-aside-00000000.pt"]
    for name in names:
        (folder / name).write_bytes(b"weights")
    store.put(record(status="failed"))
    assert all((folder / name).exists() for name in names)
    store.put(record())
    assert not any((folder / name).exists() for name in names)


def test_a_record_that_another_process_writes_in_the_same_instant_is_kept(store: Store) -> None:
    first, second = record(), record(test_error=0.5)

    def wakes_up_late(once=[]) -> None:  # noqa: B006 - it remembers that it was called
        if not once:
            once.append(True)
            Store(store.root).put(first)

    store.put(second, guard=wakes_up_late)
    found = store.get(SIGNATURE)
    assert found is not None
    assert found.metrics["test_error"] == first.metrics["test_error"]
    assert not list(store.run_folder(SIGNATURE).glob(".*"))


def test_nothing_is_written_if_the_guard_raises(store: Store) -> None:
    def lost() -> None:
        raise LookupError("the lease is gone")

    with pytest.raises(LookupError):
        store.put(record(), guard=lost)
    assert [file.name for file in store.run_folder(SIGNATURE).iterdir()] == []


def test_the_default_store_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORMBENCH_RESULTS", str(tmp_path / "elsewhere"))
    assert Store.default().root == tmp_path / "elsewhere"
    monkeypatch.delenv("NORMBENCH_RESULTS")
    assert Store.default().root == Path("results")


# Crashes, full disks, several processes


@pytest.mark.parametrize("victim", ["history.jsonl", "config.yaml", "record.json"])
def test_a_kill_between_write_and_rename_leaves_no_record(
    store: Store, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    rename = os.replace

    def killed(source: str, target: str) -> None:
        if Path(target).name == victim:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "replace", killed)
    monkeypatch.setattr(os, "link", killed)
    with pytest.raises(KeyboardInterrupt):
        store.put(record())
    assert store.get(SIGNATURE) is None
    assert not [name for name in contents(store.root) if name.endswith(".tmp")]


def test_a_kill_between_write_and_rename_leaves_the_old_record(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(record(status="failed"))

    def killed(source: str, target: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        store.put(record(test_error=0.1))
    assert store.get(SIGNATURE) == record(status="failed")


HARD_KILL = """
import os, sys
from pathlib import Path
from normbench.record import Record
from normbench.store import Store
os.link = lambda a, b: os._exit(9)
Store(Path(sys.argv[1])).put(Record(sys.argv[2], {}, "complete", {}, {}, {}, {}))
"""


def test_the_store_works_after_a_process_was_killed(store: Store) -> None:
    died = subprocess.run([sys.executable, "-c", HARD_KILL, str(store.root), SIGNATURE], check=False)
    assert died.returncode == 9
    assert store.get(SIGNATURE) is None
    assert store.records() == []
    store.put(record())
    assert store.records() == [record()]
    assert store.damaged == []


PUT_MANY = """
import sys
from pathlib import Path
from normbench.record import Record
from normbench.store import Store
store = Store(Path(sys.argv[1]))
long = {f"metric_{i}": float(sys.argv[3]) for i in range(500)}
for _ in range(60):
    store.put(Record(sys.argv[2], {"batch": 2}, "complete", long, {}, {}, {}))
"""


def test_concurrent_puts_of_one_run_keep_one_valid_record(store: Store) -> None:
    words = [sys.executable, "-c", PUT_MANY, str(store.root), SIGNATURE]
    writers = [subprocess.Popen([*words, str(number)]) for number in range(3)]
    seen = 0
    while any(writer.poll() is None for writer in writers):
        seen += store.get(SIGNATURE) is not None
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert seen > 0
    assert store.damaged == []
    [kept] = store.records()
    assert len(set(kept.metrics.values())) == 1
    assert len(contents(store.root)) == 3


@pytest.mark.parametrize("before", [None, record(status="failed")])
def test_a_full_disk_is_reported_in_one_line_and_no_record_is_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch, before: Record | None
) -> None:
    if before is not None:
        store.put(before)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunFailure) as failure:
        store.put(record(test_error=0.1))
    assert "No space left on device" in str(failure.value)
    assert "NORMBENCH_RESULTS" in str(failure.value)
    assert "\n" not in str(failure.value)
    assert store.get(SIGNATURE) == before
    assert not [name for name in contents(store.root) if name.endswith(".tmp")]


def test_writing_atomically_replaces_a_file(tmp_path: Path) -> None:
    file = tmp_path / "table.md"
    write_atomically(file, "old")
    write_atomically(file, "new ± 1\n")
    assert file.read_text(encoding="utf-8") == "new ± 1\n"
    assert contents(tmp_path) == ["table.md"]


# Damage


def _tree() -> dict[str, object]:
    return json.loads(record().to_json())


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(record().to_json()[:200], id="torn"),
        pytest.param("", id="empty"),
        pytest.param("[1, 2]", id="a list"),
        pytest.param("[" * 100_000, id="nested without end"),
        pytest.param(json.dumps({"schema": 1}), id="no fields"),
        pytest.param(json.dumps(_tree() | {"schema": 99}), id="another schema"),
        pytest.param(json.dumps(_tree() | {"signature": "ff"}), id="another run's"),
        pytest.param(json.dumps(_tree() | {"status": "running"}), id="unknown status"),
        pytest.param(json.dumps(_tree() | {"spec": None}), id="no spec"),
        pytest.param(json.dumps(_tree() | {"metrics": {"test_error": float("nan")}}), id="not a number"),
        pytest.param(json.dumps(_tree() | {"metrics": {"test_error": "0.1"}}), id="text for a number"),
        pytest.param(b"\xff\xfe\x00", id="not text"),
    ],
)
def test_a_damaged_record_counts_as_missing_and_is_reported_once(store: Store, content: str | bytes) -> None:
    store.put(record("cc00000000000000"))
    store.put(record())
    file = store.run_folder(SIGNATURE) / "record.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert store.get(SIGNATURE) is None
    assert store.finished([SIGNATURE]) == set()
    assert [kept.signature for kept in store.records()] == ["cc00000000000000"]
    [message] = store.damaged
    assert str(file) in message


def test_foreign_files_in_the_store_do_not_stop_it(store: Store) -> None:
    store.put(record())
    (store.root / "runs" / "README").write_text("mine")
    (store.root / "runs" / "ab" / "notes.txt").write_text("mine")
    (store.root / "runs" / "backup" / SIGNATURE).mkdir(parents=True)
    (store.root / "runs" / "zz").write_text("a file where a folder belongs")
    assert store.records() == [record()]
    assert store.get("zz00000000000000") is None


def test_a_truncated_curve_is_read_up_to_the_damaged_line(store: Store) -> None:
    store.put(record())
    file = store.run_folder(SIGNATURE) / "history.jsonl"
    file.write_text(file.read_text()[:-10])
    assert store.history(SIGNATURE) == record().history[:1]
    assert "line 2" in store.damaged[0]


# Finding a run


def test_a_run_is_found_by_the_start_of_its_signature_and_by_its_path(store: Store) -> None:
    store.put(record())
    folder = store.run_folder(SIGNATURE)
    for name in ("a", "ab12", SIGNATURE, str(folder), str(folder / "record.json")):
        assert store.find(name) == record()


def test_a_run_of_another_store_is_found_by_its_path(store: Store, tmp_path: Path) -> None:
    store.put(record())
    assert Store(tmp_path / "other").find(str(store.run_folder(SIGNATURE))) == record()


def test_an_ambiguous_start_names_the_candidates(store: Store) -> None:
    for signature in ("ab12000000000000", "ab13000000000000"):
        store.put(record(signature))
    with pytest.raises(InputError, match="2 runs: ab12000000000000, ab13000000000000"):
        store.find("ab1")


@pytest.mark.parametrize("name", ["ab13", "", "*"])
def test_an_unknown_run_is_bad_input(store: Store, name: str) -> None:
    store.put(record())
    with pytest.raises(InputError, match=f"all: {SIGNATURE}"):
        store.find(name)


def test_the_error_of_an_empty_store_names_its_folder(store: Store) -> None:
    with pytest.raises(InputError, match="holds no records") as error:
        store.find("ab12")
    assert str(store.root) in str(error.value)


def test_a_run_that_has_not_ended_gets_another_error_than_an_unknown_run(store: Store) -> None:
    folder = store.run_folder(SIGNATURE)
    folder.mkdir(parents=True)
    with pytest.raises(InputError, match="has not ended"):
        store.find(str(folder))


def test_the_error_of_a_damaged_run_says_what_is_wrong(store: Store) -> None:
    store.put(record())
    (store.run_folder(SIGNATURE) / "record.json").write_text("{")
    assert store.records() == []  # notes the damage before the run is looked up
    with pytest.raises(InputError, match="cannot be read: Expecting property name"):
        store.find(SIGNATURE)


# A folder that cannot be written


def _file(tmp_path: Path) -> Path:
    (tmp_path / "results").write_text("a file")
    return tmp_path / "results"


def _below_a_file(tmp_path: Path) -> Path:
    return _file(tmp_path) / "deep" / "results"


def _dangling_link(tmp_path: Path) -> Path:
    (tmp_path / "results").symlink_to(tmp_path / "unmounted" / "disk")
    return tmp_path / "results"


def _runs_is_a_file(tmp_path: Path) -> Path:
    (tmp_path / "runs").write_text("a file")
    return tmp_path


@pytest.mark.parametrize("place", [_file, _below_a_file, _dangling_link, _runs_is_a_file])
def test_a_folder_that_cannot_be_written_is_bad_input(tmp_path: Path, place) -> None:
    root = place(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(InputError, match="give another folder with NORMBENCH_RESULTS") as error:
        Store(root).check_writable()
    assert str(root) in str(error.value)
    assert contents(tmp_path) == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that refuses even root")
def test_the_check_does_not_read_permission_bits() -> None:
    with pytest.raises(InputError, match="/proc/normbench"):
        Store(Path("/proc/normbench/results")).check_writable()


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EDQUOT])
def test_a_read_only_or_full_disk_is_bad_input_before_training(
    store: Store, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refused(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refused)
    with pytest.raises(InputError, match=os.strerror(code)):
        store.check_writable()
    assert contents(store.root.parent) == []


def test_the_check_leaves_no_files(store: Store) -> None:
    Store(store.root / "not" / "there" / "yet").check_writable()
    assert not store.root.exists()
    store.put(record())
    before = contents(store.root)
    store.check_writable()
    assert contents(store.root) == before


# Additions, denser curves, earlier schemas


def addition(**metrics: float) -> Addition:
    return Addition(SIGNATURE, dict(metrics), {"torch": "2.15"}, {"commit": "abc"})


def test_later_metrics_are_added_and_replace_nothing(store: Store) -> None:
    store.put(record(test_error=0.5))
    written = (store.run_folder(SIGNATURE) / "record.json").read_bytes()
    store.add(addition(**{"test_error@precise": 0.25, "test_error": 0.9}))
    store.add(addition(**{"test_error@adapt": 0.75}))
    found = store.get(SIGNATURE)
    assert found is not None
    assert found.metrics == {
        "test_error": 0.5, "steps_to_0.01": None, "test_error@adapt": 0.75, "test_error@precise": 0.25,
    }  # fmt: skip
    assert {tuple(each.metrics) for each in found.additions} == {
        ("test_error@precise", "test_error"), ("test_error@adapt",),
    }  # fmt: skip
    assert store.records() == [found]
    assert (store.run_folder(SIGNATURE) / "record.json").read_bytes() == written


def test_the_first_of_two_additions_of_the_same_metrics_is_kept(store: Store) -> None:
    store.put(record())
    for value in (0.25, 0.5):
        store.add(addition(**{"test_error@precise": value}))
    found = store.get(SIGNATURE)
    assert found is not None and found.metrics["test_error@precise"] == 0.25


def test_another_training_adds_the_metrics_and_the_curve_that_the_run_lacked(store: Store) -> None:
    store.put(record(test_error=0.5))
    again = record(test_error=0.4)
    curve = tuple({"step": float(step), "test_error": 0.4} for step in (1, 2))
    denser = replace(
        again, spec={**again.spec, "eval": {"every": 1}}, metrics={**again.metrics, "new": 1.0}, history=curve
    )
    assert not store.has_curve(record(), 1)
    store.put(denser)
    found = store.get(SIGNATURE)
    assert found is not None
    assert (found.metrics["test_error"], found.metrics["new"]) == (0.5, 1.0)
    assert found.additions[0].provenance["trained_again"] is True
    assert store.has_curve(found, 1) and store.has_curve(found, 5)
    assert store.history(SIGNATURE) == curve
    assert len(contents(store.root)) == 5


def test_a_record_with_a_damaged_addition_is_still_read(store: Store) -> None:
    store.put(record())
    (store.run_folder(SIGNATURE) / "evaluation-0.json").write_text("{", encoding="utf-8")
    assert store.get(SIGNATURE) == record()
    assert "evaluation-0.json" in store.damaged[0]


def of_schema_1(store: Store, spec: RunSpec, signature: str, **metrics: float | None) -> None:
    """Write a record of schema 1, whose signature depended on how the run was evaluated."""
    later = (*neutral_fields(), *spec.neutral, "keep_weights", "numerics", "neutral")
    tree = without(spec.model_dump(mode="json"), later)
    folder = store.root / "runs" / signature[:2] / signature
    folder.mkdir(parents=True)
    known = {
        "signature": signature, "spec": tree, "status": "complete", "metrics": metrics, "timing": {},
        "environment": {}, "provenance": {"lanes": 1}, "schema": 1,
    }  # fmt: skip
    (folder / "record.json").write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    (folder / "history.jsonl").write_text('{"step": 1.0}\n', encoding="utf-8")


def test_records_of_schema_1_get_the_current_signatures_of_their_runs(make_spec, store: Store) -> None:
    spec = make_spec("seed=3")
    of_schema_1(store, spec, "ab" * 8, test_error=0.25)
    found = store.get(spec.signature)
    assert found is not None
    assert (found.signature, found.metrics) == (spec.signature, {"test_error": 0.25})
    assert store.records() == [found] == [store.find(spec.signature[:6])]
    assert store.finished([spec.signature]) == {spec.signature}
    assert store.history(spec.signature) == ({"step": 1.0},)
    store.put(replace(record(), signature=spec.signature, metrics={"test_error": 0.5, "new": 1.0}))
    again = Store(store.root).get(spec.signature)
    assert again is not None and again.metrics == {"test_error": 0.25, "new": 1.0}


def test_a_record_of_schema_1_without_a_test_loss_has_diverged(make_spec, store: Store) -> None:
    spec = make_spec()
    of_schema_1(store, spec, "ab" * 8, test_error=0.9, test_loss=None)
    [found] = store.records()
    assert found.status == "diverged"


def test_an_invalid_record_of_schema_1_is_reported_with_its_file(make_spec, store: Store) -> None:
    of_schema_1(store, make_spec(), "cd" * 8, test_error=0.25)
    file = store.root / "runs" / "cd" / ("cd" * 8) / "record.json"
    file.write_text(file.read_text().replace('"epochs": 10', '"epochs": "ten"'), encoding="utf-8")
    assert store.records() == []
    assert "epochs" in store.damaged[0] and "cdcd" in store.damaged[0]


@pytest.mark.parametrize("name", ["record.json", "history.jsonl", "config.yaml"])
def test_a_folder_in_place_of_a_run_s_file_is_named_before_training(store, name):
    folder = store.run_folder("a" * 16)
    (folder / name).mkdir(parents=True)
    with pytest.raises(InputError, match=f"{name} must be a file, but is a folder; move it away"):
        check_places([store.run_folder("a" * 16)])
    check_places([store.run_folder("b" * 16)])


@pytest.mark.parametrize("part", ["parent", "folder"])
def test_a_file_in_place_of_a_run_s_folder_is_named_before_training(store, part):
    folder = store.run_folder("a" * 16)
    place = folder if part == "folder" else folder.parent
    place.parent.mkdir(parents=True)
    place.write_text("")
    with pytest.raises(InputError, match=f"{place} must be a folder, but is a file; move it away"):
        check_places([store.run_folder("a" * 16)])
