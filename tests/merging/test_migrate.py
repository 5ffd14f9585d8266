"""`normbench migrate`: records of schema 1 move to the folders of today, and nothing is lost on the way."""

from __future__ import annotations

import json
import shutil

import pytest

from killed import killed_at
from normbench import cli
from normbench.paths import without
from normbench.record import Record
from normbench.spec import RunSpec, neutral_fields
from normbench.store import Store

OLD, OLDER = "ab" * 8, "cd" * 8


def of_schema_1(store: Store, spec: RunSpec, signature: str, **metrics: float | None) -> None:
    later = (*neutral_fields(), *spec.neutral, "keep_weights", "numerics", "neutral")
    folder = store.run_folder(signature)
    folder.mkdir(parents=True)
    known = {
        "signature": signature, "spec": without(spec.model_dump(mode="json"), later), "status": "complete",
        "metrics": metrics, "timing": {}, "environment": {}, "provenance": {"lanes": 1}, "schema": 1,
    }  # fmt: skip
    (folder / "record.json").write_text(json.dumps(known, indent=2) + "\n")
    (folder / "history.jsonl").write_text('{"step": 1.0}\n')
    (folder / "notes.txt").write_text("mine\n")


@pytest.fixture
def store() -> Store:
    return Store.default()


@pytest.fixture
def spec(make_spec) -> RunSpec:
    return make_spec("seed=3")


def files(store: Store) -> dict[str, bytes]:
    found = store.root.rglob("*")
    return {str(file.relative_to(store.root)): file.read_bytes() for file in found if file.is_file()}


def test_a_record_moves_to_the_folder_of_today_and_the_old_folder_is_kept_as_it_was(store, spec, capsys):
    of_schema_1(store, spec, OLD, test_error=0.25)
    old = files(store)
    before = Store(store.root).get(spec.signature)
    assert cli.run(["migrate"]) == 0
    after = Store(store.root)
    found = after.record_in(after.run_folder(spec.signature))
    assert found == after.get(spec.signature)
    assert (found.metrics, found.spec, found.status) == (before.metrics, before.spec, before.status)
    assert found.provenance == {"lanes": 1, "migrated_from": OLD}
    assert after.history(spec.signature) == ({"step": 1.0},)
    assert not after.run_folder(OLD).exists()
    assert {f"migrated/{name}": text for name, text in old.items()}.items() <= files(store).items()
    assert "1 record of schema 1" in capsys.readouterr().out


def test_a_second_call_changes_nothing(store, spec, capsys):
    of_schema_1(store, spec, OLD, test_error=0.25)
    assert cli.run(["migrate"]) == 0
    before = files(store)
    assert cli.run(["migrate"]) == 0
    assert files(store) == before
    assert "all records are up to date" in capsys.readouterr().out


def test_a_dry_run_writes_nothing(store, spec, capsys):
    of_schema_1(store, spec, OLD, test_error=0.25)
    before = files(store)
    assert cli.run(["migrate", "--dry-run"]) == 0
    assert files(store) == before
    assert "1 run: 1 new" in capsys.readouterr().out


def test_records_that_differed_only_in_their_evaluation_become_one_run(store, spec):
    of_schema_1(store, spec, OLD, test_error=0.25)
    of_schema_1(store, spec, OLDER, **{"test_error": 0.25, "test_error@batch": 0.3})
    assert cli.run(["migrate"]) == 0
    [found] = Store(store.root).records()
    assert found.metrics == {"test_error": 0.25, "test_error@batch": 0.3}


def test_an_old_result_that_differs_from_that_of_today_is_kept_aside(store, spec, capsys):
    store.put(
        Record(spec.signature, spec.model_dump(mode="json"), "complete", {"test_error": 0.5}, {}, {}, {})
    )
    of_schema_1(store, spec, OLD, test_error=0.25)
    assert cli.run(["migrate"]) == 0
    assert Store(store.root).get(spec.signature).metrics == {"test_error": 0.5}
    assert Store(store.root / "conflicts" / "1").get(spec.signature).metrics == {"test_error": 0.25}
    assert "test_error 0.5 here, 0.25 there" in capsys.readouterr().out


def test_a_record_that_cannot_be_read_stays_and_is_named(store, spec, capsys):
    of_schema_1(store, spec, OLD, test_error=0.25)
    file = store.run_folder(OLD) / "record.json"
    file.write_text(file.read_text().replace('"epochs": 10', '"epochs": "ten"'))
    before = files(store)
    assert cli.run(["migrate"]) == 1
    assert files(store) == before
    said = capsys.readouterr()
    assert "1 record cannot be read and stays where it is" in said.out
    assert OLD in said.err


def test_a_merge_converts_records_of_schema_1_and_asks_to_migrate_its_own(store, spec, tmp_path, capsys):
    there = Store(tmp_path / "there")
    of_schema_1(there, spec, OLD, test_error=0.25)
    before = files(there)
    assert cli.run(["merge", str(there.root)]) == 0
    assert files(there) == before
    assert store.record_in(store.run_folder(spec.signature)).metrics == {"test_error": 0.25}
    of_schema_1(store, spec, OLDER, test_error=0.25)
    capsys.readouterr()
    assert cli.run(["merge", str(there.root)]) == 2
    assert "has 1 record of schema 1; bring it up to date first: normbench migrate" in capsys.readouterr().err


@pytest.mark.parametrize("every", [13, pytest.param(1, marks=pytest.mark.slow)])
def test_whenever_a_migration_is_killed_no_result_is_lost_and_the_next_one_ends_it(
    store, spec, make_spec, every
):
    of_schema_1(store, spec, OLD, test_error=0.25)
    of_schema_1(store, make_spec("seed=4"), OLDER, test_error=0.5)
    start = files(store)
    cli.run(["migrate"])
    wanted = files(store)
    for last in range(every - 1, 1000, every):
        shutil.rmtree(store.root)
        for name, content in start.items():
            (store.root / name).parent.mkdir(parents=True, exist_ok=True)
            (store.root / name).write_bytes(content)
        killed = killed_at(last, lambda: cli.run(["migrate"]))
        assert sorted(each.metrics["test_error"] for each in Store(store.root).records()) == [0.25, 0.5]
        cli.run(["migrate"])
        found = {name: text for name, text in files(store).items() if not name.endswith(".tmp")}
        assert found == wanted, f"killed at operation {last}"
        if not killed:
            break
    assert last > 10
