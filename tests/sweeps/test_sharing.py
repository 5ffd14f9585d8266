"""Several processes share a store: one of them trains each run, and who lost a lease writes nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from event_log import Log
from normbench import events, leases
from normbench.errors import StoreFailure
from normbench.leases import EXPIRES_S, Lease, Watch
from normbench.processes import Process, this_process
from normbench.record import Record
from normbench.store import Store
from normbench.sweeps import checkpointer, get_or_train, waiting
from normbench.sweeps.held_leases import HeldLeases
from normbench.sweeps.waiting import Waiting

ELSEWHERE = Process("another", "00000000", 4711, "1")
GONE = this_process()._replace(pid=2**22 + 1)
QUICK = [
    "model=mlp", "model.hidden=[8]", "data=synthetic", "data.train_size=64", "data.test_size=16",
    "data.size=8", "batch=8", "steps=20", "norm=bn", "tracking=none",
    "engine.device=cpu", "engine.processes=1",
]  # fmt: skip


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


@pytest.fixture(autouse=True)
def quick_polls(monkeypatch):
    monkeypatch.setattr(waiting, "POLL_S", 0.0)
    monkeypatch.setattr(checkpointer, "CHECKPOINT_EVERY_S", 0.0)


def hold(store, signature, holder=ELSEWHERE):
    lease = Lease(holder=holder)
    assert leases.take(store.lease_file(signature), lease)
    return lease


def finish(store, lease, signature, metrics):
    """Another process ends a run: its record is written, and its lease removed."""
    store.put(Record(signature, {"seed": 0}, "complete", metrics, {}, {}, {"steps": 20}))
    leases.release(store.lease_file(signature), lease.token)


def files(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in folder.iterdir() if file.name != "lease.json"}


def test_a_holder_that_was_stopped_past_its_lease_writes_nothing_more(make_sweep, store):
    """Seed 1 is taken over between two steps, and ended by the other process. Seeds 0 and 2 go on."""
    sweep = make_sweep(*QUICK, "seed=range(3)")
    lost = sweep[1].spec.signature
    folder, seen, other = store.run_folder(lost), {}, []
    metrics = {"test_error": 0.123, "test_loss": 1.0, "test_error@batch": 0.1, "test_loss@batch": 1.0}

    def look(event):
        if isinstance(event, events.StackLogged) and event.step == 10 and not other:
            store.lease_file(lost).unlink()
            other.append(hold(store, lost))
            seen.update(files(folder))
        if isinstance(event, events.Notice) and "being trained by another pid 4711" in event.text:
            assert files(folder) == seen  # nothing since the take-over
            finish(store, other[0], lost, metrics)

    log = Log(look)
    records = get_or_train.train(sweep, store, [log])
    assert [record.status for record in records] == ["complete"] * 3
    assert records[1].metrics == metrics
    assert [event.record.signature for event in log.of(events.RunEndedElsewhere)] == [lost]
    assert len(log.of(events.RunEnded)) == 2
    assert [record.provenance["resumed_from"] for record in records if record.signature != lost] == [10, 10]
    assert list(store.root.rglob("lease.json")) == []


def test_a_lease_lost_before_the_records_are_written_keeps_weights_and_record_away(
    make_sweep, store, monkeypatch
):
    from normbench.sweeps import worker

    sweep = make_sweep(*QUICK, "seed=range(2)", "keep_weights=true")
    lost, real, other = sweep[0].spec.signature, worker.train_together, []

    def stopped_at_the_end(specs, *args):
        results = real(specs, *args)
        if not other:
            store.lease_file(lost).unlink()
            other.append(hold(store, lost, GONE))
        return results

    def look(event):
        if isinstance(event, events.RunsHeld):
            assert not store.weights_file(lost).exists()
            assert store.get(lost) is None

    monkeypatch.setattr(worker, "train_together", stopped_at_the_end)
    log = Log(look)
    records = get_or_train.train(sweep, store, [log])
    assert [record.status for record in records] == ["complete"] * 2
    assert log.of(events.RunsHeld)
    assert records[0].provenance["resumed_from"] > 0  # it was free again, because its holder is gone


def test_runs_of_a_dead_process_of_this_machine_are_taken_over_at_once(make_sweep, store):
    (resolved,) = make_sweep(*QUICK)
    hold(store, resolved.spec.signature, GONE)
    log = Log()
    (record,) = get_or_train.train([resolved], store, [log])
    assert record.status == "complete"
    assert log.of(events.RunsHeld) == []


def test_a_run_that_another_process_has_ended_since_the_plan_is_read(make_sweep, store):
    sweep = make_sweep(*QUICK, "seed=range(2)")
    done = sweep[1].spec.signature
    metrics = {"test_error": 0.5, "test_loss": 1.0, "test_error@batch": 0.1, "test_loss@batch": 1.0}

    def look(event):
        if isinstance(event, events.SweepStarted):
            store.put(Record(done, {"seed": 1}, "complete", metrics, {}, {}, {"steps": 20}))

    log = Log(look)
    records = get_or_train.train(sweep, store, [log])
    assert records[1].metrics == metrics
    assert [len(event.signatures) for event in log.of(events.StackStarted)] == [1]


def test_a_run_that_failed_elsewhere_meanwhile_is_not_tried_again_here(make_sweep, store):
    (resolved,) = make_sweep(*QUICK)
    signature = resolved.spec.signature
    lease = hold(store, signature)

    def look(event):
        if isinstance(event, events.Notice) and "; waiting" in event.text:
            failed = Record(
                signature, {"seed": 0}, "failed", {}, {}, {}, {"error": "no luck", "ended": "now"}
            )
            store.put(failed)
            leases.release(store.lease_file(signature), lease.token)

    log = Log(look)
    (record,) = get_or_train.train([resolved], store, [log])
    assert record.status == "failed"
    assert log.of(events.StackStarted) == []


def test_a_run_that_had_failed_before_the_command_is_trained(make_sweep, store):
    (resolved,) = make_sweep(*QUICK)
    failed = Record(resolved.spec.signature, {"seed": 0}, "failed", {}, {}, {}, {"ended": "yesterday"})
    store.put(failed)
    (record,) = get_or_train.train([resolved], store)
    assert record.status == "complete"


def test_runs_of_one_training_are_not_divided_between_processes_that_take_them_now(make_sweep, store):
    """The other process holds the first run of the training, and is about to take the second one."""
    sweep = make_sweep(*QUICK, "norm.momentum=0.1,0.2,0.3")
    training = [resolved.spec for resolved in sweep]
    first, *_ = sorted(spec.signature for spec in training)
    lease = hold(store, first)
    held = HeldLeases(store, Watch())
    assert held.take([training]) == dict.fromkeys(sorted(spec.signature for spec in training), lease)
    assert held.held == frozenset()
    assert len(list(store.root.rglob("lease.json"))) == 1


def test_banks_that_nobody_asked_for_are_free(make_sweep, store):
    sweep = make_sweep(*QUICK, "norm.momentum=0.1,0.2,0.3")
    *others, last = sorted(resolved.spec.signature for resolved in sweep)
    hold(store, last)
    held = HeldLeases(store, Watch())
    assert list(held.take([[resolved.spec for resolved in sweep]])) == [last]
    assert held.held == frozenset(others)


class Sleeper:
    """A clock that goes on while `Waiting` sleeps, and what happens at some times."""

    def __init__(self, happens):
        self.now, self.happens = 0.0, happens

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += 1.0
        self.happens(self.now)


def test_runs_of_a_silent_holder_elsewhere_are_free_after_the_lease_has_expired(make_sweep, store):
    specs = [resolved.spec for resolved in make_sweep(*QUICK, "seed=range(3)")]
    silent, renewing, _ = (spec.signature for spec in specs)
    hold(store, silent)
    lease = hold(store, renewing)
    for skew in (-300, 300):
        os.utime(store.lease_file(silent), (leases.time.time() + skew,) * 2)
    sleeper = Sleeper(lambda now: leases.renew(store.lease_file(renewing), lease))
    said = []
    waits = Waiting(store, {}, said.append, Watch(sleeper), sleeper.sleep)
    assert waits.until_free(specs) == ([specs[2]], specs[:2])
    assert waits.until_free(specs[:2]) == ([specs[0]], [specs[1]])
    assert EXPIRES_S <= sleeper.now <= EXPIRES_S + 2
    assert [event.text.partition(" since")[0] for event in said] == [
        "2 runs are being trained by another pid 4711"
    ]


def test_what_a_killed_process_left_beside_a_result_is_removed(make_sweep, store):
    (resolved,) = make_sweep(*QUICK)
    (record,) = get_or_train.train([resolved], store)
    folder = store.run_folder(record.signature)
    before = sorted(file.name for file in folder.iterdir())
    hold(store, record.signature, GONE)
    for name in (
        "checkpoint.pt",
        "checkpoint.json",
        f".record.json.{GONE.place}-{GONE.pid}-0000000000000000.tmp",
    ):
        (folder / name).write_bytes(b"left over")
    get_or_train.train([resolved], store)
    assert sorted(file.name for file in folder.iterdir()) == before


def test_a_record_that_is_removed_while_the_sweep_runs_is_named(make_sweep, store):
    sweep = make_sweep(*QUICK, "seed=range(2)", "engine.lanes=1")
    first = sweep[0].spec.signature

    def remove(event):
        if isinstance(event, events.RunEnded) and event.record.signature != first:
            shutil.rmtree(store.run_folder(first))

    with pytest.raises(StoreFailure, match=f"1 record of this sweep cannot be read.*{first}"):
        get_or_train.train(sweep, store, [Log(remove)])
    assert len(get_or_train.train(sweep, store)) == 2
