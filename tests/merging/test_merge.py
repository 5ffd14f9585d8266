"""`normbench merge`: what is new, added, in conflict or known, and that nothing here is overwritten."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from killed import killed_at
from normbench import cli, leases, tags
from normbench.leases import Lease
from normbench.processes import Process
from normbench.record import Addition, Record
from normbench.store import Store

ONE, TWO, THREE = "ab12cd34ef567890", "ab99cd34ef567890", "cd12cd34ef567890"
ELSEWHERE = Process("node7", "00000000", 4711, "1")


def record(signature: str = ONE, *, status: str = "complete", every: int | None = None, **metrics) -> Record:
    known = {"test_error": 0.25, "train_loss": 0.5} | metrics
    return Record(
        signature,
        {"norm": {"name": "bn"}, "batch": 2, "seed": 0, "eval": {"every": every}, "tracking": {"tags": []}},
        status,
        {} if status == "failed" else known,
        {"train_s": 1.0},
        {"torch": "2.6"},
        {"ended": "2026-01-01T00:00:00+00:00", "steps": 100},
        history=({"step": 100, "test_error": 0.25},),
    )


def later(made: Record) -> Record:
    """The same run, trained another time."""
    return replace(made, provenance=made.provenance | {"ended": "2026-02-02T00:00:00+00:00"})


@pytest.fixture
def here() -> Store:
    return Store.default()


@pytest.fixture
def there(tmp_path: Path) -> Store:
    return Store(tmp_path / "there")


def merge(there: Store, *options: str, code: int = 0) -> None:
    assert cli.run(["merge", *options, str(there.root)]) == code


def files(store: Store) -> dict[str, bytes]:
    """Every file of a store with its content."""
    found = store.root.rglob("*")
    return {str(file.relative_to(store.root)): file.read_bytes() for file in found if file.is_file()}


def weights(store: Store, signature: str, value: float = 1.0) -> bytes:
    file = store.weights_file(signature)
    save_file({"layer.weight": torch.full((2,), value)}, file, {"norm": "bn"})
    return file.read_bytes()


def test_a_new_run_comes_with_all_its_files_to_the_last_byte(here, there, capsys):
    there.put(record())
    there.add(Addition(ONE, {"test_nll": 0.7}, {}, {}))
    tags.write(there.run_folder(ONE), ["paper"])
    weights(there, ONE)
    (there.run_folder(ONE) / "curve-10.json").write_text('{"points": []}\n')
    merge(there)
    assert files(here) == files(there)
    assert "in all 1 run: 1 new" in capsys.readouterr().out
    assert here.get(ONE).metrics == {"test_error": 0.25, "train_loss": 0.5, "test_nll": 0.7}


def test_a_second_merge_changes_nothing(here, there, capsys):
    there.put(record())
    there.put(record(TWO, status="failed"), error="boom")
    here.put(record(THREE))
    there.put(later(record(THREE, test_error=0.5)))
    here.put(record("ef12cd34ef567890"))
    there.put(later(record("ef12cd34ef567890", every=50, test_nll=0.7)))
    merge(there)
    before = files(here)
    capsys.readouterr()
    merge(there)
    assert files(here) == before
    assert "in all 4 runs: 1 in conflict as before, 3 known" in capsys.readouterr().out


def test_metrics_curves_weights_and_tags_that_are_missing_are_added(here, there, capsys):
    here.put(record())
    tags.write(here.run_folder(ONE), ["mine"])
    there.put(later(record(every=50, test_nll=0.7)))
    there.add(Addition(ONE, {"test_error@batch": 0.3}, {}, {}))
    tags.write(there.run_folder(ONE), ["theirs", "mine"])
    kept = weights(there, ONE)
    before = files(here)
    merge(there)
    found = Store(here.root).get(ONE)
    assert found.metrics == {
        "test_error": 0.25, "train_loss": 0.5, "test_nll": 0.7, "test_error@batch": 0.3
    }  # fmt: skip
    assert here.has_curve(found, 50)
    assert here.weights_file(ONE).read_bytes() == kept
    assert found.tags == ("mine", "theirs")
    after = files(here)
    assert all(after[name] == text for name, text in before.items() if not name.endswith("tags.json"))
    said = capsys.readouterr().out
    assert "1 with more results" in said
    assert "files: 4 added files, 1 final state" in said


def test_a_copy_of_the_same_training_adds_nothing(here, there):
    for store in (here, there):
        store.put(replace(record(), spec=record().spec | {"diagnostics": ["running_error"]}))
    before = files(here)
    merge(there)
    assert files(here) == before


def test_other_results_are_named_and_kept_aside_with_everything_they_have(here, there, capsys):
    here.put(record())
    ours = weights(here, ONE, 1.0)
    there.put(record(test_error=0.5))
    theirs = weights(there, ONE, 2.0)
    before = files(here)
    merge(there)
    side = Store(here.root / "conflicts" / "1")
    assert {name: text for name, text in files(here).items() if not name.startswith("conflicts")} == before
    assert files(side) == files(there)
    assert (here.weights_file(ONE).read_bytes(), side.weights_file(ONE).read_bytes()) == (ours, theirs)
    said = capsys.readouterr().out
    assert f"{ONE}: test_error 0.25 here, 0.5 there; kept in {side.run_folder(ONE)}" in said


def test_a_third_result_gets_a_second_store_of_conflicts(here, there, tmp_path):
    here.put(record())
    third = Store(tmp_path / "third")
    there.put(record(test_error=0.5))
    third.put(record(test_error=0.75))
    assert cli.run(["merge", str(there.root), str(third.root)]) == 0
    found = [Store(here.root / "conflicts" / str(n)).get(ONE).metrics["test_error"] for n in (1, 2)]
    assert found == [0.5, 0.75]


def test_conflicts_of_another_store_come_too(here, there, tmp_path):
    there.put(record())
    Store(there.root / "conflicts" / "1").put(record(test_error=0.5))
    merge(there)
    assert here.get(ONE).metrics["test_error"] == 0.25
    assert Store(here.root / "conflicts" / "1").get(ONE).metrics["test_error"] == 0.5


def test_a_conflict_is_adopted_by_removing_ours_and_merging_it(here, there):
    here.put(record())
    there.put(record(test_error=0.5))
    merge(there)
    assert cli.run(["runs", "rm", ONE, "--yes"]) == 0
    merge(Store(here.root / "conflicts" / "1"))
    assert Store(here.root).get(ONE).metrics["test_error"] == 0.5


@pytest.mark.parametrize("every", [None, 50])
def test_metrics_of_the_curve_count_only_if_both_curves_have_the_same_steps(here, there, every, capsys):
    here.put(record())
    there.put(later(record(every=every, train_loss=0.5001)))
    merge(there)
    assert ("1 in conflict" in capsys.readouterr().out) == (every is None)


@pytest.mark.parametrize(("theirs", "conflicts"), [(0.5000001, 0), (0.5001, 1)])
def test_results_that_differ_by_rounding_are_the_same(theirs: float, conflicts: int, here, there, capsys):
    """Another stack or another machine rounds otherwise. One image more is no rounding."""
    here.put(record(train_loss=0.5))
    there.put(later(record(train_loss=theirs)))
    merge(there)
    assert ("in conflict" in capsys.readouterr().out) == bool(conflicts)
    assert Store(here.root).get(ONE).metrics["train_loss"] == 0.5


def test_another_status_is_another_result(here, there, capsys):
    here.put(record())
    there.put(record(status="diverged"))
    merge(there)
    assert "status complete here, diverged there" in capsys.readouterr().out


def test_a_result_takes_the_place_of_a_failure_and_never_the_other_way(here, there, capsys):
    here.put(record(status="failed"), error="boom")
    here.put(record(TWO))
    there.put(record())
    there.put(record(TWO, status="failed"), error="boom")
    merge(there)
    assert {each.signature: each.status for each in here.records()} == {ONE: "complete", TWO: "complete"}
    assert not here.error_file(ONE).exists()
    assert not here.error_file(TWO).exists()
    assert "1 with a result in place of a failure, 1 known" in capsys.readouterr().out


def test_a_checkpoint_comes_unless_there_is_one_or_a_result(here, there, capsys):
    for signature in (ONE, TWO, THREE):
        there.run_folder(signature).mkdir(parents=True)
        there.checkpoint_file(signature).write_bytes(b"theirs")
    here.put(record(TWO))
    here.run_folder(THREE).mkdir(parents=True)
    here.checkpoint_file(THREE).write_bytes(b"ours")
    merge(there)
    found = [
        file.read_bytes() if (file := here.checkpoint_file(s)).exists() else None for s in (ONE, TWO, THREE)
    ]
    assert found == [b"theirs", None, b"ours"]
    assert "1 partial, 2 known" in capsys.readouterr().out


@pytest.mark.parametrize("at_home", [False, True])
def test_a_run_that_a_process_trains_is_left_out_and_named(here, there, at_home, capsys):
    there.run_folder(ONE).mkdir(parents=True)
    there.checkpoint_file(ONE).write_bytes(b"theirs")
    leases.take((here if at_home else there).lease_file(ONE), Lease(holder=ELSEWHERE))
    merge(there)
    assert not here.checkpoint_file(ONE).exists()
    where = "here" if at_home else "there"
    assert f"{ONE}: node7 pid 4711 trains it {where}; merge again later" in capsys.readouterr().out


def test_no_lease_is_left_behind(here, there):
    there.put(record())
    merge(there)
    assert not here.lease_file(ONE).exists()


def test_the_final_state_of_a_killed_training_does_not_become_that_of_the_merged_record(here, there):
    here.run_folder(ONE).mkdir(parents=True)
    weights(here, ONE, 3.0)
    there.put(record())
    merge(there)
    assert not here.weights_file(ONE).exists()


def test_damaged_files_are_named_and_give_exit_code_1(here, there, capsys):
    there.put(record())
    there.put(record(TWO))
    (there.run_folder(ONE) / "record.json").write_text("{")
    weights(there, TWO)
    whole = there.weights_file(TWO).read_bytes()
    there.weights_file(TWO).write_bytes(whole[:-1])
    merge(there, code=1)
    said = capsys.readouterr().err
    assert f"{ONE}/record.json" in said
    assert f"{TWO}/weights.safetensors: it is damaged; it is left out" in said
    assert here.get(ONE) is None
    assert here.get(TWO) is not None
    assert not here.weights_file(TWO).exists()


def test_a_dry_run_says_the_same_and_writes_nothing(here, there, tmp_path, capsys):
    here.put(record(THREE))
    there.put(record())
    there.put(record(THREE, test_error=0.5))
    again = Store(tmp_path / "again")
    again.put(record())
    before = files(here)
    words = ["merge", str(there.root), str(again.root)]
    assert cli.run([*words, "--dry-run"]) == 0
    dry = capsys.readouterr().out
    assert files(here) == before
    assert cli.run(words) == 0
    assert dry == capsys.readouterr().out + "dry run: nothing was written\n"
    assert "in all 3 runs: 1 new, 1 in conflict, 1 known" in dry


def test_notes_on_impossible_runs_come_too(here, there, capsys):
    (there.root / "runs").mkdir(parents=True)
    (there.root / "skipped").mkdir()
    (there.root / "skipped" / "0123.json").write_text(json.dumps({"spec": {}, "reason": "no"}))
    merge(there)
    merge(there)
    assert (here.root / "skipped" / "0123.json").exists()
    assert "1 note on an impossible run" in capsys.readouterr().out


def test_folders_that_are_no_other_store_are_refused(here, there, tmp_path, capsys):
    here.put(record())
    there.put(record())
    for folder, said in (
        (tmp_path / "nothing", "is no results folder: it has no folder runs"),
        (there.root / "runs", f"give its parent {there.root}"),
        (here.root, "is the results folder itself"),
    ):
        assert cli.run(["merge", str(folder)]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("every", [13, pytest.param(1, marks=pytest.mark.slow)])
def test_whenever_a_merge_is_killed_nothing_is_torn_and_the_next_one_ends_the_work(here, there, every):
    there.put(record())
    there.put(record(TWO))
    here.put(record(TWO, status="failed"), error="boom")
    there.put(later(record(THREE, every=50, test_nll=0.7)))
    here.put(record(THREE))
    weights(there, ONE)
    start = files(here)
    merge(there)
    wanted = files(here)
    for last in range(every - 1, 1000, every):
        restore(here, start)
        killed = killed_at(last, lambda: cli.run(["merge", str(there.root)]))
        reader = Store(here.root)
        assert {TWO, THREE} <= {each.signature for each in reader.records()}
        assert reader.damaged == []
        merge(there)
        found = {name: text for name, text in files(here).items() if not name.endswith(".tmp")}
        assert found == wanted, f"killed at operation {last}"
        if not killed:
            break
    assert last > 20


def restore(store: Store, contents: dict[str, bytes]) -> None:
    """Make a store have these files and no others."""
    shutil.rmtree(store.root)
    for name, content in contents.items():
        (store.root / name).parent.mkdir(parents=True, exist_ok=True)
        (store.root / name).write_bytes(content)
