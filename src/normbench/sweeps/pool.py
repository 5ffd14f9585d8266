"""Worker processes: one single-threaded process per core over the packs of a plan.

The parent hands packs out one at a time, with the data in shared memory, and listens to events. A worker
that dies takes only the pack it held with it: the pack is halved and handed out again, and a lone run whose
worker died is recorded as failed.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from normbench import events
from normbench.errors import RunFailure, reason
from normbench.sweeps.plan import Pack

T = TypeVar("T")
Emit = Callable[[events.Event], None]
Job = Callable[[Callable[[Any], None]], None]  # it is given a way to say something to the parent


@dataclass
class Worker:
    """A process, the pipe to it, and what it is at work on."""

    process: BaseProcess
    pipe: Connection
    pack: Pack | None = None

    def exit_code(self) -> int | None:
        """What it died of; waits for the end of a process whose pipe has closed."""
        self.process.join(timeout=10)
        return self.process.exitcode


class WorkerPool:
    """Workers over a queue of packs.

    They start at once and import torch while the parent still reads the data.
    """

    def __init__(self, size: int) -> None:
        self.workers = [_spawn() for _ in range(size)]

    def run_on_all(self, job: Callable[[], T]) -> list[T]:
        """Let all workers do the same thing at the same time; their answers.

        Raises:
            RunFailure: it failed in one of them.
        """
        for worker in self.workers:
            worker.pipe.send(partial(_answer, job))
        failure, answers = None, []
        for number, worker in enumerate(self.workers):
            try:
                answer = worker.pipe.recv()
                worker.pipe.recv()  # that the job is done
            except (EOFError, ConnectionResetError):
                answer = RunFailure(f"a worker process died (exit code {worker.exit_code()})")
                self.workers[number] = _spawn()
            failure = answer if isinstance(answer, RunFailure) else failure
            answers.append(answer)
        if failure is not None:
            raise failure
        return answers

    def work(
        self,
        packs: Sequence[Pack],
        job_of: Callable[[Pack], Job],
        emit: Emit,
        give_up: Callable[[Pack, str], events.Event],
    ) -> None:
        """Work on packs, in the order given; returns when all are done.

        Args:
            job_of:  the work on a pack, which says the events; its tensors lie in shared memory.
            emit:    gets every event, in this process.
            give_up: what to do about a lone run whose worker died, and why it died; the event that says so.

        Raises:
            RunFailure: the store cannot be written.
        """
        waiting = deque(packs)
        while waiting or any(worker.pack for worker in self.workers):
            for worker in self.workers:
                if worker.pack is None and waiting:
                    worker.pack = waiting.popleft()
                    worker.pipe.send(job_of(worker.pack))
            for pipe in wait([worker.pipe for worker in self.workers if worker.pack]):
                worker = next(w for w in self.workers if w.pipe is pipe)
                try:
                    event = worker.pipe.recv()
                except (EOFError, ConnectionResetError):
                    waiting.extendleft(reversed(self._replace(worker, emit, give_up)))
                    continue
                if isinstance(event, RunFailure):
                    raise event
                if event is None:
                    worker.pack = None
                else:
                    emit(event)

    def _replace(
        self, dead: Worker, emit: Emit, give_up: Callable[[Pack, str], events.Event]
    ) -> Sequence[Pack]:
        """Spawn another worker for one that died; the packs that its own becomes."""
        pack, why = dead.pack, f"its worker process died (exit code {dead.exit_code()})"
        self.workers[self.workers.index(dead)] = _spawn()
        assert pack is not None
        if len(pack.specs) > 1:
            emit(events.StackSplit(pack.signatures, why))
            return pack.halves()
        emit(give_up(pack, why))
        return ()

    def close(self) -> None:
        """End all workers, those at work at once."""
        for worker in self.workers:
            worker.pipe.close()
            worker.process.terminate()
        for worker in self.workers:
            worker.process.join(timeout=10)


@contextmanager
def worker_pool(size: int) -> Iterator[WorkerPool]:
    """A pool that is closed at the end, whatever happens."""
    pool = WorkerPool(size)
    try:
        yield pool
    finally:
        pool.close()


def _spawn() -> Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    return Worker(process, ours)


def _serve(pipe: Connection) -> None:
    """A worker's life: do what comes through the pipe until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    import torch

    import_module("normbench.sweeps.worker")  # PERF: while the parent reads the data
    torch.set_num_threads(1)
    while True:
        try:
            job: Job = pipe.recv()
        except EOFError:
            return
        try:
            job(pipe.send)
            pipe.send(None)
        except RunFailure as failure:
            pipe.send(failure)
        except BrokenPipeError:  # the parent is gone; what was under way has its checkpoint
            return


def _answer(question: Callable[[], Any], say: Callable[[Any], None]) -> None:
    try:
        answer = question()
    except Exception as error:
        answer = RunFailure(reason(error))
    say(answer)
