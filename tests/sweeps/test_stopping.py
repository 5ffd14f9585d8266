"""Signals let training write a checkpoint first; errors of reporting are no failures of runs."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest

from event_log import Log
from normbench import cli, events
from normbench.errors import Interrupted, RunFailure
from normbench.store import Store
from normbench.sweeps import checkpointer, get_or_train, worker, worker_process
from normbench.sweeps.get_or_train import Sweep
from normbench.sweeps.stopping import STOP, Stopped, StopRequest

QUICK = [
    "model=mlp", "model.hidden=[8]", "data=synthetic", "data.train_size=64", "data.test_size=16",
    "data.size=8", "batch=8", "steps=200", "norm=bn", "tracking=none",
    "engine.device=cpu", "engine.processes=1",
]  # fmt: skip


@pytest.fixture(autouse=True)
def fresh():
    """Requests of a test do not reach the next one. No signal is ignored, as it is under nohup."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    STOP.signal, STOP.training, STOP.pulse.wanted = None, False, False


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


def press(number, step=100):
    """A callback for `Log`: the signal comes at a step of the curve."""

    def on(event):
        if isinstance(event, events.StackLogged) and event.step == step:
            os.kill(os.getpid(), number)

    return on


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_writes_checkpoints_and_says_how_to_go_on(number, make_sweep, store):
    before = signal.getsignal(number)
    sweep, log = make_sweep(*QUICK, "seed=range(2)"), Log(press(number))
    with pytest.raises(Interrupted, match=r"^interrupted; 2 runs go on from step 100; finished") as ended:
        get_or_train.train(sweep, store, [log])
    assert ended.value.exit_code == 128 + number
    assert signal.getsignal(number) is before
    assert log.events[-1] == "closed"
    assert [store.unfinished(each.spec.signature).step for each in sweep] == [100, 100]
    assert list(store.root.rglob("lease.json")) == []
    assert "2 runs go on from step 100" in Sweep(sweep, store).plan.notes
    records = get_or_train.train(sweep, store)
    assert [record.provenance["resumed_from"] for record in records] == [100, 100]


def test_a_second_signal_ends_at_once(make_sweep, store):
    def twice(event):
        if isinstance(event, events.StackLogged) and event.step == 100:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match=r"^interrupted; finished runs are kept"):
        get_or_train.train(make_sweep(*QUICK), store, [Log(twice)])
    assert list(store.root.rglob("checkpoint.pt")) == []
    assert list(store.root.rglob("lease.json")) == []


def test_outside_training_the_first_signal_ends_at_once(make_sweep, store):
    def on(event):
        if isinstance(event, events.SweepStarted):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted) as ended:
        get_or_train.train(make_sweep(*QUICK), store, [Log(on)])
    assert ended.value.exit_code == 143


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest().heard():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143), (1, 129)])
def test_the_command_line_exits_with_the_code_of_the_signal(number, code, monkeypatch, capsys):
    from normbench.commands import norms

    def run(argv):
        raise Interrupted(number, "interrupted; 2 runs go on from step 7; the rest")

    monkeypatch.setattr(norms, "run", run)
    assert cli.run(["norms"]) == code
    assert capsys.readouterr().err == "error: interrupted; 2 runs go on from step 7; the rest\n"


def test_a_parent_that_is_gone_stops_training_with_a_checkpoint_and_no_failed_run(make_sweep, store):
    """As in a worker: sending fails, so the line asks training to stop."""

    class Broken:
        sent = 0

        def send(self, message):
            if isinstance(message, events.StackLogged) and message.step >= 100:
                raise BrokenPipeError

    (resolved,) = make_sweep(*QUICK)
    sweep = Sweep([resolved], store)
    line, spec = worker_process.Line(Broken()), resolved.spec
    work = partial(worker.train_pack, sweep.plan.packs[0], sweep.data.of(spec), store, sweep.tuner.of(spec))
    with pytest.raises(Stopped):
        work(line.send)
    assert store.get(spec.signature) is None
    assert store.unfinished(spec.signature).step == 100
    assert list(store.root.rglob("lease.json")) == []


def test_a_failed_run_keeps_its_checkpoint_and_goes_on_from_it(make_sweep, store, monkeypatch):
    monkeypatch.setattr(checkpointer, "CHECKPOINT_EVERY_S", 0.0)
    real = worker.train_together
    (resolved,) = make_sweep(*QUICK)

    def out_of_memory(event):
        if isinstance(event, events.StackLogged) and event.step == 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get_or_train.train([resolved], store, [Log(out_of_memory)])
    monkeypatch.setattr(worker, "train_together", lambda *args: 1 / 0)
    (record,) = get_or_train.train([resolved], store)
    assert record.status == "failed"
    assert store.unfinished(record.signature).step == 96
    monkeypatch.setattr(worker, "train_together", real)
    (record,) = get_or_train.train([resolved], store)
    assert (record.status, record.provenance["resumed_from"]) == ("complete", 96)


def test_a_run_that_fails_once_is_tried_again_alone_and_counted(make_sweep, store, monkeypatch):
    real, tried = worker.train_together, []

    def unlucky_once(specs, *args):
        tried.append(len(specs))
        if any(spec.seed == 1 for spec in specs) and len(tried) < 4:
            raise RuntimeError("too little memory beside others")
        return real(specs, *args)

    monkeypatch.setattr(worker, "train_together", unlucky_once)
    log = Log()
    records = get_or_train.train(make_sweep(*QUICK, "seed=range(2)"), store, [log])
    assert [record.status for record in records] == ["complete"] * 2
    assert tried == [2, 1, 1, 1]
    assert [record.provenance.get("attempts") for record in records] == [None, 2]
    splits = [event.then for event in log.events if isinstance(event, events.StackSplit)]
    assert splits == ["its runs continue in smaller stacks", "it is tried again"]


def test_an_error_that_was_raised_on_purpose_is_not_tried_again(make_sweep, store, monkeypatch):
    tried = []

    def refuse(*args):
        tried.append(1)
        raise RunFailure("engine.graphs=true, but a step cannot be captured")

    monkeypatch.setattr(worker, "train_together", refuse)
    (record,) = get_or_train.train(make_sweep(*QUICK), store)
    assert (record.status, len(tried)) == ("failed", 1)


@pytest.mark.parametrize(("words", "trained"), [("continue", 2), ("stop", 1)])
def test_on_error_says_whether_the_other_runs_are_trained(words, trained, make_sweep, store, monkeypatch):
    real = worker.train_together

    def picky(specs, *args):
        if specs[0].seed == 1:
            raise RuntimeError("seed 1 is unlucky")
        return real(specs, *args)

    monkeypatch.setattr(worker, "train_together", picky)
    sweep = Sweep(make_sweep(*QUICK, "seed=range(3)", "engine.lanes=1"), store, words)
    if words == "stop":
        with pytest.raises(
            RunFailure, match=r"run \w+ failed: RuntimeError: seed 1 is unlucky; on_error=stop"
        ):
            sweep.train()
    else:
        sweep.train()
    assert sum(record.status == "complete" for record in store.records()) == trained


def test_on_error_is_checked_and_leaves_the_signature(make_sweep, trainer, capsys):
    assert cli.run(["train", "on_error=halt"]) == 2
    assert "on_error must be continue or stop; got 'halt'" in capsys.readouterr().err
    (one,), (other,) = make_sweep("on_error=stop"), make_sweep()
    assert one.spec.signature == other.spec.signature
