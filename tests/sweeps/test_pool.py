"""Worker processes: those that die before they begin, break or hang, and those that outlive nobody."""

from __future__ import annotations

import multiprocessing
import os

import pytest

from normbench import events
from normbench.errors import RunFailure
from normbench.sweeps import pool as module
from normbench.sweeps.plan import Pack
from normbench.sweeps.pool import WorkerPool
from normbench.sweeps.stopping import STOP
from normbench.sweeps.worker_handle import HANGING, HANGING_S, Worker
from normbench.sweeps.worker_process import BEAT, BEGUN, Answer, Broken, Line, Watcher


class Process:
    """Stands for a process; the other end of its pipe is the test's."""

    exitcode = -9

    def __init__(self):
        self.signals = []

    def join(self, timeout=None):
        pass

    def terminate(self):
        self.signals.append("terminate")

    def kill(self):
        self.signals.append("kill")


@pytest.fixture
def spawned(monkeypatch):
    """A function that says how the next workers behave, one script per worker, and the workers in order."""
    made, scripts = [], []

    def spawn(gpu=None):
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        for message in scripts[len(made)] if len(made) < len(scripts) else ():
            theirs.send(message)
        theirs.close()
        worker = Worker(Process(), ours)
        worker.pipe = Recorder(ours)
        made.append(worker)
        return worker

    monkeypatch.setattr(module, "spawn", spawn)
    monkeypatch.setattr(module, "wait", lambda pipes, timeout: list(pipes))
    return lambda *given: scripts.extend(given) or made


class Recorder:
    """A pipe whose sending end keeps what was sent, as if somebody read it."""

    def __init__(self, pipe):
        self.pipe, self.sent = pipe, []

    def send(self, message):
        self.sent.append(message)

    def recv(self):
        return self.pipe.recv()

    def close(self):
        self.pipe.close()


def work(size, packs):
    said = []

    def give_up(pack, why):
        return events.Notice(f"{len(pack.specs)}: {why}")

    WorkerPool(size).work(packs, lambda pack: pack, said.append, give_up)
    return said


@pytest.fixture
def specs(make_sweep):
    return [each.spec for each in make_sweep("model=mlp", "seed=range(4)")]


def test_a_worker_that_dies_before_it_begins_is_replaced_and_its_pack_is_not_blamed(spawned, specs):
    workers = spawned([], [], [BEGUN, None])
    assert work(1, [Pack(tuple(specs))]) == []
    assert [worker.pipe.sent for worker in workers] == [[Pack(tuple(specs))]] * 3


def test_workers_that_never_begin_end_the_sweep_with_a_word(spawned, specs):
    spawned([], [], [])
    with pytest.raises(RunFailure, match=r"no worker process can begin: .*exit code -9.*engine.processes=1"):
        work(1, [Pack(tuple(specs))])


def test_a_pack_whose_worker_dies_is_halved_and_a_lone_run_is_tried_again_once(spawned, specs):
    spawned([BEGUN], [BEGUN, None, BEGUN], [BEGUN])
    said = work(1, [Pack(tuple(specs[:2]))])
    assert [event.then for event in said if isinstance(event, events.StackSplit)] == [
        "its runs continue in smaller stacks", "it is tried again",
    ]  # fmt: skip
    assert said[-1].text == "1: its worker process died (exit code -9)"


def test_a_job_that_breaks_leaves_the_worker_alive(spawned, specs):
    workers = spawned([BEGUN, Broken("KeyError: 'x'"), None, BEGUN, None, BEGUN, None])
    said = work(1, [Pack(tuple(specs[:2]))])
    assert [event.reason for event in said] == ["KeyError: 'x'"]
    assert len(workers) == 1


def test_run_on_all_gives_every_answer_none_too_and_skips_signs_of_life(spawned):
    spawned([BEGUN, BEAT, Answer(None), None, BEGUN, Answer(3), BEAT, None])
    pool = WorkerPool(1)
    assert pool.run_on_all(lambda: None) == [None]
    assert pool.run_on_all(lambda: 3) == [3]
    with pytest.raises(RunFailure, match=r"a worker process died \(exit code -9\)"):
        pool.run_on_all(lambda: 3)


def test_a_worker_hangs_if_it_is_silent_for_long_by_its_own_pace():
    worker = Worker(Process(), None)
    worker.pack, worker.heard = Pack(()), 0.0
    assert not worker.hangs(HANGING_S)
    assert worker.hangs(HANGING_S + 1)
    worker.hear(60.0)  # its steps take a minute
    assert not worker.hangs(60.0 + HANGING * 60.0)
    assert worker.hangs(60.0 + HANGING * 60.0 + 1)
    worker.pack = None
    assert not worker.hangs(10**9)


def test_a_hanging_worker_is_killed_and_a_parent_that_slept_counts_anew(spawned, monkeypatch):
    made = WorkerPool(1)
    (worker,) = made.workers
    worker.pack = Pack(())
    now = [module.time.monotonic()]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    worker.heard = made.checked = now[0]
    now[0] += HANGING_S + 1  # nothing ran meanwhile: the parent was stopped
    made._end_hanging()
    assert worker.process.signals == []
    for _ in range(int(HANGING_S) + 1):
        now[0] += 1
        made._end_hanging()
    assert worker.process.signals == ["kill"]
    assert worker.why_ended() == "it made no progress for 301 s and was ended"


class Here:
    def __init__(self):
        self.sent = []

    def send(self, message):
        self.sent.append(message)


@pytest.fixture
def pulse():
    yield STOP.pulse
    STOP.pulse.step, STOP.pulse.stepping, STOP.signal, STOP.pulse.wanted = 0, False, None, False


def test_progress_is_a_step_in_training_and_use_of_the_processor_outside_it(pulse, monkeypatch):
    used, now = [0.0], [0.0]
    monkeypatch.setattr("normbench.sweeps.worker_process.time.process_time", lambda: used[0])
    watcher = Watcher(Line(Here()), os.getppid(), lambda: now[0])

    def moves(step, stepping, cpu):
        pulse.step, pulse.stepping = step, stepping
        used[0], now[0] = used[0] + cpu, now[0] + 1.0
        return watcher.moves(now[0])

    assert moves(1, True, 0.0)
    assert not moves(1, True, 1.0)  # it uses the processor, but takes no step
    assert moves(2, True, 0.0)
    assert not moves(2, False, 0.0)
    assert moves(2, False, 0.5)  # an evaluation


def test_a_worker_ends_after_its_parent_and_training_first_stops(pulse, monkeypatch):
    ended, now = [], [0.0]
    monkeypatch.setattr(os, "_exit", ended.append)
    watcher = Watcher(Line(Here()), os.getppid() + 1, lambda: now[0])
    with STOP.while_training():
        watcher()
        assert STOP.signal is not None
        assert pulse.wanted
        assert ended == []
        now[0] = 31.0
        watcher()
        assert ended == [1]
    watcher()
    assert ended == [1, 1]
