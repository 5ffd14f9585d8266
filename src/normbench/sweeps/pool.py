"""Worker processes for the packs of a plan: one single-threaded process per core.

The parent sends each free worker a pack, with the data in shared memory, and receives events. If a worker
dies, its pack is halved and sent to other workers. A lone run whose worker died is recorded as failed.
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
from normbench.errors import InputError, RunFailure, reason
from normbench.parts import Plugin
from normbench.plugins import loading
from normbench.sweeps.plan import Pack

T = TypeVar("T")
Emit = Callable[[events.Event], None]
Job = Callable[[Callable[[Any], None]], None]  # gets a function that sends a message to the parent


@dataclass
class Worker:
    """A process, the pipe to it, and the pack that it works on."""

    process: BaseProcess
    pipe: Connection
    pack: Pack | None = None

    def exit_code(self) -> int | None:
        """The exit code. Waits until a process whose pipe has closed has ended."""
        self.process.join(timeout=10)
        return self.process.exitcode


class WorkerPool:
    """Worker processes that share a queue of packs.

    They start immediately and import torch while the parent reads the data.
    """

    def __init__(self, size: int) -> None:
        self.workers = [_spawn() for _ in range(size)]

    def run_on_all(self, job: Callable[[], T]) -> list[T]:
        """Run one job in all workers at the same time, and return their results.

        Raises:
            RunFailure: the job failed in a worker.
        """
        for worker in self.workers:
            worker.pipe.send(partial(_send_result, job))
        failure, results = None, []
        for number, worker in enumerate(self.workers):
            try:
                result = worker.pipe.recv()
                worker.pipe.recv()  # None: the job is done
            except (EOFError, ConnectionResetError):
                result = RunFailure(f"a worker process died (exit code {worker.exit_code()})")
                self.workers[number] = _spawn()
            failure = result if isinstance(result, RunFailure) else failure
            results.append(result)
        if failure is not None:
            raise failure
        return results

    def work(
        self,
        packs: Sequence[Pack],
        job_of: Callable[[Pack], Job],
        emit: Emit,
        give_up: Callable[[Pack, str], events.Event],
    ) -> None:
        """Work on packs in their order. Returns when all are done.

        Args:
            job_of:  pack → job, which sends events; its tensors are in shared memory.
            emit:    gets every event, in this process.
            give_up: handles a lone run whose worker died, with the reason, and returns an event.

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
        """Replace a worker that died. Return the packs to work on in place of its pack."""
        pack, why = dead.pack, f"its worker process died (exit code {dead.exit_code()})"
        self.workers[self.workers.index(dead)] = _spawn()
        assert pack is not None
        if len(pack.specs) > 1:
            emit(events.StackSplit(pack.signatures, why))
            return pack.halves()
        emit(give_up(pack, why))
        return ()

    def close(self) -> None:
        """Terminate all workers, even if they are working."""
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
    process = context.Process(target=_serve, args=(theirs, loading.loaded()), daemon=True)
    process.start()
    theirs.close()
    return Worker(process, ours)


def _serve(pipe: Connection, plugins: Sequence[Plugin]) -> None:
    """The loop of a worker process: load the plugins, and run the jobs from the pipe until it closes."""
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
            loading.again(plugins)
            job(pipe.send)
            pipe.send(None)
        except InputError as error:  # a plugin that no longer loads, or has changed
            pipe.send(RunFailure(str(error)))
        except RunFailure as failure:
            pipe.send(failure)
        except BrokenPipeError:  # the parent has ended; runs in training have their checkpoints
            return


def _send_result(job: Callable[[], Any], send: Callable[[Any], None]) -> None:
    try:
        result = job()
    except Exception as error:
        result = RunFailure(reason(error))
    send(result)
