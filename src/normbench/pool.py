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
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

from normbench import events
from normbench.errors import RunFailure
from normbench.plan import Pack
from normbench.store import Store

if TYPE_CHECKING:
    from normbench.data.dataset import Dataset

Emit = Callable[[events.Event], None]


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


class Crew:
    """Workers over a queue of packs.

    They start at once and import torch while the parent still reads the data.
    """

    def __init__(self, size: int, store: Store) -> None:
        self.store = store
        self.workers = [_hire(store) for _ in range(size)]

    def work(self, packs: Sequence[Pack], data_of: Callable[[Pack], Dataset], emit: Emit) -> None:
        """Train packs, in the order given; returns when every run has its record.

        Args:
            data_of: the data set of a pack, its tensors in shared memory.
            emit:    gets every event, in this process.

        Raises:
            RunFailure: the store cannot be written.
        """
        waiting = deque(packs)
        while waiting or any(worker.pack for worker in self.workers):
            for worker in self.workers:
                if worker.pack is None and waiting:
                    worker.pack = waiting.popleft()
                    worker.pipe.send((worker.pack, data_of(worker.pack)))
            for pipe in wait([worker.pipe for worker in self.workers if worker.pack]):
                worker = next(w for w in self.workers if w.pipe is pipe)
                try:
                    event = worker.pipe.recv()
                except (EOFError, ConnectionResetError):
                    waiting.extendleft(reversed(self._replace(worker, emit)))
                    continue
                if isinstance(event, RunFailure):
                    raise event
                if event is None:
                    worker.pack = None
                else:
                    emit(event)

    def _replace(self, dead: Worker, emit: Emit) -> Sequence[Pack]:
        """Hire another worker for one that died; the packs that its own becomes."""
        from normbench.work import fail

        pack, reason = dead.pack, f"its worker process died (exit code {dead.exit_code()})"
        self.workers[self.workers.index(dead)] = _hire(self.store)
        assert pack is not None
        if len(pack.specs) > 1:
            emit(events.StackSplit(pack.signatures, reason))
            return pack.halves()
        emit(events.RunEnded(fail(pack, self.store, reason)))
        return ()

    def dismiss(self) -> None:
        """End all workers, those at work at once."""
        for worker in self.workers:
            worker.pipe.close()
            worker.process.terminate()
        for worker in self.workers:
            worker.process.join(timeout=10)


@contextmanager
def crew(size: int, store: Store) -> Iterator[Crew]:
    """A crew that is dismissed in the end, whatever happens."""
    hired = Crew(size, store)
    try:
        yield hired
    finally:
        hired.dismiss()


def _hire(store: Store) -> Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, store), daemon=True)
    process.start()
    theirs.close()
    return Worker(process, ours)


def _serve(pipe: Connection, store: Store) -> None:
    """A worker's life: train what comes through the pipe until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    import torch

    from normbench.work import work

    torch.set_num_threads(1)
    while True:
        try:
            pack, dataset = pipe.recv()
        except EOFError:
            return
        try:
            work(pack, dataset, store, pipe.send)
            pipe.send(None)
        except RunFailure as failure:
            pipe.send(failure)
        except BrokenPipeError:  # the parent is gone; what was under way has its checkpoint
            return
