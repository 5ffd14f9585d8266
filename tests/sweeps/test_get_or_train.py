"""Get or train, with the real engine: nothing trains twice, and a failed run does not affect the others."""

from __future__ import annotations

import multiprocessing
import shutil
from contextlib import suppress
from dataclasses import replace

import pytest
import torch

from event_log import Log
from normbench import events
from normbench.errors import InputError, RunFailure
from normbench.store import Store
from normbench.sweeps import checkpointer, get_or_train, worker

QUICK = [
    "model=mlp",
    "model.hidden=[16]",
    "steps=20",
    "tracking=none",
    "engine.processes=1",
    "engine.device=cpu",
]


def interrupt_at(step):
    """A callback for `Log` that acts as if the user presses Ctrl-C at a step of the curve."""

    def press(event):
        if isinstance(event, events.StackLogged) and event.step == step:
            raise KeyboardInterrupt

    return press


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


def test_a_sweep_is_trained_once_and_then_read(make_sweep, store):
    sweep = make_sweep(*QUICK, "norm=bn,gn", "seed=range(2)")
    first, log = Log(), Log()
    records = get_or_train.train(sweep, store, [first])
    again = get_or_train.train(sweep, store, [log])
    assert [r.status for r in records] == ["complete"] * 4
    assert records == again
    assert first.events[-1] == "closed"
    assert [event.record for event in log.of(events.RunFound)] == records
    assert len(log.events) == len(records) + 1  # and "closed"
    assert log.events[-1] == "closed"
    assert [r.signature for r in records] == [r.spec.signature for r in sweep]


def test_duplicates_train_once_and_each_gets_the_record(make_sweep, store):
    sweep = make_sweep(*QUICK, "norm=gn", "norm.momentum=0.1,0.2")
    log = Log()
    records = get_or_train.train(sweep, store, [log])
    assert len(records) == 2
    assert records[0] == records[1]
    assert len(log.of(events.RunEnded)) == 1
    assert "1 of 2 runs are the same" in log.of(events.Notice)[1].text


def test_the_record_is_on_disk_before_it_is_announced(make_sweep, store):
    def look(event):
        if isinstance(event, events.RunEnded):
            assert store.get(event.record.signature) == event.record

    log = Log(look)
    get_or_train.train(make_sweep(*QUICK), store, [log])
    assert len(log.of(events.RunEnded)) == 1  # if the observer had raised, it would have been removed


def test_records_describe_stack_parameters_data_and_environment(make_sweep, store):
    (record,) = get_or_train.train(make_sweep(*QUICK, "norm=gn", "seed=3"), store)
    assert record.provenance["stack_size"] == 1
    assert record.provenance["parameters"] == 64 * 16 + 2 * 16 + 16 * 10 + 10
    assert record.provenance["data"] == "as is (8×8)"
    assert list(record.provenance["sites"]) == ["fc1"]
    assert {"normbench", "torch", "python", "device"} <= set(record.environment)
    assert record.timing["steps_per_s"] == pytest.approx(20 / record.timing["train_s"])
    assert store.history(record.signature)[-1]["step"] == 20


def test_the_runs_of_a_stack_share_its_time(make_sweep, store):
    records = get_or_train.train(make_sweep(*QUICK, "norm=bn", "seed=range(3)"), store)
    assert {record.provenance["stack_size"] for record in records} == {3}
    (stack_s,) = {record.timing["stack_s"] for record in records}
    assert sum(record.timing["train_s"] for record in records) == pytest.approx(stack_s)


def test_a_stack_without_memory_is_halved_until_it_fits(make_sweep, store, monkeypatch):
    real = worker.train_together

    def tight(specs, *args):
        if len(specs) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return real(specs, *args)

    monkeypatch.setattr(worker, "train_together", tight)
    log = Log()
    records = get_or_train.train(make_sweep(*QUICK, "seed=range(5)"), store, [log])
    assert [r.status for r in records] == ["complete"] * 5
    assert [len(e.signatures) for e in log.of(events.StackSplit)] == [5, 3]
    assert sorted(r.provenance["stack_size"] for r in records) == [1, 2, 2, 2, 2]


def test_a_run_that_fails_is_found_and_recorded_and_the_others_complete(make_sweep, store, monkeypatch):
    real = worker.train_together

    def picky(specs, *args):
        if any(spec.seed == 2 for spec in specs):
            raise RuntimeError("seed 2 is unlucky\nset MORE_WORDS=1 to learn nothing else")
        return real(specs, *args)

    monkeypatch.setattr(worker, "train_together", picky)
    sweep = make_sweep(*QUICK, "seed=range(4)")
    records = get_or_train.train(sweep, store)
    assert [r.status for r in records] == ["complete", "complete", "failed", "complete"]
    assert records[2].provenance["error"] == "RuntimeError: seed 2 is unlucky"
    assert "MORE_WORDS=1" in (store.run_folder(records[2].signature) / "error.txt").read_text()
    monkeypatch.setattr(worker, "train_together", real)
    log = Log()
    assert [r.status for r in get_or_train.train(sweep, store, [log])] == ["complete"] * 4
    assert len(log.of(events.RunEnded)) == 1  # only the failed one is trained again


def test_worker_processes_give_the_same_records_as_one_process(make_sweep, tmp_path):
    words = [*QUICK, "norm=bn,gn", "seed=range(2)"]
    here = get_or_train.train(make_sweep(*words), Store(tmp_path / "here"))
    there = get_or_train.train(make_sweep(*words, "engine.processes=2"), Store(tmp_path / "there"))
    assert [r.metrics for r in here] == [r.metrics for r in there]


def test_no_run_is_lost_if_a_worker_is_killed(make_sweep, store):
    killed = []

    def kill(event):
        if isinstance(event, events.StackLogged) and not killed:
            killed.append(event)
            multiprocessing.active_children()[0].kill()
            multiprocessing.active_children()[-1].kill()

    log = Log(kill)
    words = [*QUICK, "norm=bn,gn", "seed=range(2)", "steps=400", "engine.processes=2"]
    records = get_or_train.train(make_sweep(*words), store, [log])
    assert [r.status for r in records] == ["complete"] * 4
    assert any("worker process died" in e.reason for e in log.of(events.StackSplit))


def test_an_interrupted_run_resumes_from_its_checkpoint(make_sweep, store, monkeypatch, tmp_path):
    monkeypatch.setattr(checkpointer, "CHECKPOINT_EVERY_S", 0.0)
    sweep = make_sweep(*QUICK, "norm=bn", "seed=range(2)")
    whole = get_or_train.train(sweep, Store(tmp_path / "whole"))

    with pytest.raises(KeyboardInterrupt):
        get_or_train.train(sweep, store, [Log(interrupt_at(10))])
    assert all(store.checkpoint_file(r.spec.signature).exists() for r in sweep)
    records = get_or_train.train(sweep, store)
    assert [r.metrics for r in records] == [r.metrics for r in whole]
    first = records[0].provenance["resumed_from"]
    assert 0 < first <= 10
    for record in records:  # the steps before the interruption took no time of this command
        timing = record.timing
        assert timing["steps_per_s"] * timing["train_s"] == pytest.approx(20 - first)
    assert not store.checkpoint_file(records[0].signature).exists()


@pytest.mark.parametrize(
    ("before", "after", "resumes"),
    [("eval.every=null", "eval.every=4", False), ("eval.every=4", "eval.every=8", True),
     ("eval.every=8", "eval.every=4", False), ("eval.every=4", "eval.every=null", True)],
)  # fmt: skip
def test_a_checkpoint_without_an_evaluation_that_is_now_asked_for_is_not_used(
    make_sweep, store, monkeypatch, before, after, resumes
):
    monkeypatch.setattr(checkpointer, "CHECKPOINT_EVERY_S", 0.0)
    words = [*QUICK, "norm=bn"]
    with pytest.raises(KeyboardInterrupt):
        get_or_train.train(make_sweep(*words, before), store, [Log(interrupt_at(10))])
    (record,) = get_or_train.train(make_sweep(*words, after), store)
    assert (record.provenance["resumed_from"] > 0) is resumes
    evaluated = {point["step"] for point in store.history(record.signature) if "test_error" in point}
    every = record.spec["eval"]["every"] or 20
    assert evaluated >= set(range(every, 21, every))


def test_runs_with_and_without_a_checkpoint_train_in_separate_stacks(make_sweep, store, monkeypatch):
    monkeypatch.setattr(checkpointer, "CHECKPOINT_EVERY_S", 0.0)
    sweep = make_sweep(*QUICK, "norm=bn", "seed=range(2)")
    with pytest.raises(KeyboardInterrupt):
        get_or_train.train(sweep[:1], store, [Log(interrupt_at(10))])
    records = get_or_train.train(sweep, store)
    assert sorted(r.provenance["resumed_from"] > 0 for r in records) == [False, True]
    assert [r.status for r in records] == ["complete"] * 2


def test_a_run_with_a_damaged_checkpoint_starts_from_the_beginning(make_sweep, store):
    (resolved,) = make_sweep(*QUICK)
    file = store.checkpoint_file(resolved.spec.signature)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half a checkpoi")
    (record,) = get_or_train.train([resolved], store)
    assert record.status == "complete"


def test_a_disk_that_refuses_checkpoints_is_reported_once(make_sweep, store, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpointer, "CHECKPOINT_EVERY_S", 0.0)
    monkeypatch.setattr(checkpointer.checkpoints, "save", full)
    log = Log()
    (record,) = get_or_train.train(make_sweep(*QUICK), store, [log])
    assert record.status == "complete"
    assert [n.text for n in log.of(events.Notice)] == [
        "no checkpoints for this stack: [Errno 28] No space left on device"
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=lenet5", "norm=in"], "site fc1: in"),
        (["model=lenet5", "norm=bn", "batch=1"], "site fc1: bn"),
        (["model=lenet5", "norm=gn", "norm.args.num_groups=4"], "site conv1: gn"),
        (["model=lenet5", "placement=after_add"], "lenet5 has no placement after_add"),
        (["placement.sites=conv9"], "unknown site 'conv9'"),
        (["data=mnist", "data.root=/nowhere", "data.download=false"], "no whole copy of data=mnist under"),
        (["batch=2000"], "holds 1297"),
        (["engine.device=cuda:9"], "engine.device=cuda:9 is not here"),
    ],
)  # fmt: skip
def test_a_run_that_cannot_be_trained_is_refused_before_anything_is_written(
    make_sweep, store, words, message
):
    with pytest.raises(InputError, match=message):
        get_or_train.train(make_sweep("seed=range(2)", *words), store)
    assert not store.root.exists()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_store_that_cannot_be_written_ends_the_sweep_in_one_line(make_sweep, store, processes):
    sweep = make_sweep(*QUICK, "norm=bn,gn", "seed=range(2)", f"engine.processes={processes}")

    def fill(event):
        while isinstance(event, events.StackStarted) and not (store.root / "runs").is_file():
            with suppress(OSError):  # the other process may write there meanwhile
                shutil.rmtree(store.root / "runs", ignore_errors=True)
                (store.root / "runs").write_text("a file where a folder should be")

    with pytest.raises(RunFailure, match=r"(cannot|no lease can) be written to"):
        get_or_train.train(sweep, store, [Log(fill)])


def test_a_results_folder_that_cannot_be_written_is_refused(make_sweep, tmp_path):
    file = tmp_path / "a-file"
    file.write_text("")
    with pytest.raises(InputError, match="NORMBENCH_RESULTS"):
        get_or_train.train(make_sweep(*QUICK), Store(file / "results"))


def test_a_plan_is_estimated_from_runs_that_have_ended(make_sweep, store):
    sweep = make_sweep(*QUICK, "seed=range(4)")
    before = get_or_train.Sweep(sweep, store).estimate()
    assert before.sources == {"guess": 1}
    get_or_train.train(sweep[:2], store)
    after = get_or_train.Sweep(sweep, store).estimate()
    assert after.sources == {"ended": 1}
    assert 0 < after.seconds < 10
    assert after.lines()[0].endswith("by runs that have ended here")


def test_the_memory_of_a_plan_grows_with_lanes_and_images(make_sweep, store):
    def memory(*words):
        return get_or_train.Sweep(make_sweep(*QUICK, *words), store).estimate().memory

    assert memory("seed=range(4)") == 4 * memory("seed=0")
    assert memory("batch=64") > memory("batch=8")


@pytest.mark.parametrize(
    ("breaks", "said"),
    [(39, ["norm=bn: engine.compile=true divides the forward pass 39 times"]), (0, []), (None, [])],
)
def test_a_forward_pass_that_the_compiler_divides_gives_one_notice(
    make_sweep, store, monkeypatch, breaks, said
):
    real = worker.train_together

    def divided(*args):
        return [replace(result, about=result.about | {"graph_breaks": breaks}) for result in real(*args)]

    monkeypatch.setattr(worker, "train_together", divided)
    log = Log()
    get_or_train.train(make_sweep(*QUICK, "norm=bn", "seed=range(2)"), store, [log])
    assert [n.text for n in log.of(events.Notice) if "compile" in n.text] == said
