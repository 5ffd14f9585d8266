"""What a job does and says: its events as lines, its end, and what signals do to it."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass

import pytest

from normbench import events
from normbench.errors import RunFailure, StoreFailure
from normbench.executor_spec import ExecutorSpec
from normbench.record import COMPLETE, Record
from normbench.store import Store
from normbench.sweeps.executors import job as module
from normbench.sweeps.executors.event_lines import Began, End, EventFile, line, parsed
from normbench.sweeps.executors.job import PackJob
from normbench.sweeps.executors.slurm import options
from normbench.sweeps.plan import Pack
from normbench.sweeps.stopping import STOP


@pytest.fixture
def record(make_spec):
    spec = make_spec("model=mlp")
    return Record(spec.signature, spec.model_dump(mode="json"), COMPLETE, {"test_error": 0.1}, {}, {}, {})


def test_events_survive_the_way_through_a_line(record, tmp_path):
    store = Store(tmp_path)
    store.put(record)
    kept = store.get(record.signature)
    said = [
        events.StackStarted(("a",), ({"norm": {"name": "bn", "sites": ["x"]}},), ("g",), 10, 2),
        events.StackLogged(("a", "b"), 3, ({"step": 3.0, "train_loss": None}, {"step": 3.0})),
        events.StackSplit(("a",), "no memory"), events.StackPaused(("a",), 3), events.RunsHeld(("a",)),
        events.RunEnded(kept), events.RunEndedElsewhere(kept), events.RunEvaluated(kept, ("test_nll",)),
        events.EvaluationFailed("a", "why"), events.Notice("ä\nb"), Began("node", 3), End("broken", "why"),
    ]  # fmt: skip
    assert [parsed(line(each), store) for each in said] == said


def test_a_reader_waits_for_whole_lines_and_for_records_and_skips_what_is_no_event(record, tmp_path):
    file, store = tmp_path / "0.jsonl", Store(tmp_path)
    reader = EventFile(file, store)
    assert list(reader.news()) == []
    text = line(events.Notice("one")) + 'what?\n{"kind": "os.system"}\n[]\n' + line(events.RunEnded(record))
    file.write_text(text + line(events.Notice("two"))[:9])
    assert list(reader.news()) == [events.Notice("one")]
    assert list(reader.news()) == []
    store.put(record)
    assert [type(event) for event in reader.news()] == [events.RunEnded]
    file.write_text(text + line(events.Notice("two")))
    assert list(reader.news()) == [events.Notice("two")]


@dataclass
class Work:
    """Stands for the work on a pack: it gets signals, or raises."""

    pack: Pack
    signals: tuple[int, ...] = ()
    error: Exception | None = None

    def __call__(self, emit):
        for number in self.signals:
            os.kill(os.getpid(), number)
        if self.error is not None:
            raise self.error
        STOP.check()


@pytest.fixture
def do(tmp_path, make_spec, monkeypatch):
    """A function that does a job; it returns end, reason, exit code, and whether it was requeued."""
    monkeypatch.setattr(module, "SECOND_SIGNAL_S", 0.2)
    file, requeued = tmp_path / "0.jsonl", []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}

    def run(*signals, error=None):
        signal.signal(signal.SIGUSR2, lambda number, frame: requeued.append(number))
        code = None
        try:
            PackJob(Work(Pack((make_spec("model=mlp"),)), signals, error), file)()
        except SystemExit as exit:
            code = exit.code
        lines = [json.loads(text) for text in file.read_text().splitlines()]
        assert lines[0]["pid"] == os.getpid()
        return lines[-1]["how"], lines[-1]["reason"], code, bool(requeued)

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)
    STOP.signal, STOP.pulse.wanted = None, False


def test_a_job_says_that_it_is_done(do):
    assert do() == ("done", "", None, False)


def test_the_signal_of_submitit_requeues_a_job_after_its_checkpoint(do):
    assert do(signal.SIGUSR2) == ("stopped", "", 128 + signal.SIGUSR2, True)


def test_sigterm_alone_does_not_requeue_because_the_user_may_have_cancelled(do):
    assert do(signal.SIGTERM) == ("stopped", "", 128 + signal.SIGTERM, False)


def test_sigterm_before_the_signal_of_submitit_is_preemption_too(do):
    assert do(signal.SIGTERM, signal.SIGUSR2) == ("stopped", "", 128 + signal.SIGTERM, True)


@pytest.mark.parametrize(
    ("said", "requeued"), [("PreemptTime=2026-11-26T10:00:00 Restarts=0", True), ("PreemptTime=None", False)]
)
def test_sigterm_requeues_a_job_that_slurm_preempts(said, requeued, do, monkeypatch, tmp_path):
    command = tmp_path / "scontrol"
    command.write_text(f'#!/bin/sh\n[ "$*" = "show job 12" ] && echo "PreemptEligibleTime=2026 {said}"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert do(signal.SIGTERM) == ("stopped", "", 128 + signal.SIGTERM, requeued)


def test_errors_of_a_job_are_one_line_for_the_command(do):
    assert do(error=RunFailure("the plugin has changed")) == ("broken", "the plugin has changed", 1, False)


def test_a_full_store_is_told_apart_from_a_broken_job(do, tmp_path):
    with pytest.raises(StoreFailure):
        do(error=StoreFailure("no space left"))
    assert json.loads((tmp_path / "0.jsonl").read_text().splitlines()[-1])["how"] == "full"


def test_slurm_gets_what_was_asked_for_and_nothing_else():
    plain = options(ExecutorSpec(name="slurm", timeout=60), "nb-1")
    assert plain["signal_delay_s"] == 90
    assert plain["additional_parameters"] == {"requeue": True}
    assert not {"partition", "mem", "gpus_per_node", "cpus_per_task", "srun_args", "setup"} & plain.keys()
    spec = ExecutorSpec(
        name="slurm", timeout=2, gpus=2, cpus=8, memory=1.5, partition="gpu", setup=["module load cuda"],
        sbatch={"reservation": "mine"},
    )  # fmt: skip
    asked = options(spec, "nb-1")
    assert asked["signal_delay_s"] == 30, "a short job must also have time to begin"
    assert (asked["gpus_per_node"], asked["cpus_per_task"], asked["mem"]) == (2, 8, "1536MB")
    assert asked["srun_args"] == ["--cpus-per-task=8"]
    assert asked["additional_parameters"] == {"requeue": True, "reservation": "mine"}
