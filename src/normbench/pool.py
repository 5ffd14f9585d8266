"""Worker processes: one single-threaded process per core over the packs of a plan.

The parent hands packs out one at a time and listens to events; it never touches a tensor. A worker that dies
takes only the pack it held with it: the pack is halved and handed out again, and a lone run whose worker died
is recorded as failed.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from normbench import events
from normbench.plan import Pack
from normbench.store import Store

Emit = Callable[[events.Event], None]


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    pack: Pack | None = None


def work_in_processes(packs: Sequence[Pack], store: Store, emit: Emit, processes: int) -> None:
    """Train packs in worker processes; returns when every run has its record.

    Args:
        packs:     in the order in which they are handed out.
        emit:      gets every event, in this process.
        processes: workers at most.
    """
    from normbench.work import fail

    waiting = deque(packs)
    crew = [_hire(store) for _ in range(min(processes, len(packs)))]
    try:
        while waiting or any(worker.pack for worker in crew):
            for worker in crew:
                if worker.pack is None and waiting:
                    worker.pack = waiting.popleft()
                    worker.pipe.send(worker.pack)
            for pipe in wait([worker.pipe for worker in crew if worker.pack]):
                worker = next(w for w in crew if w.pipe is pipe)
                try:
                    event = worker.pipe.recv()
                except EOFError:
                    pack, code = worker.pack, _exit_code(worker)
                    crew[crew.index(worker)] = _hire(store)
                    assert pack is not None
                    reason = f"its worker process died (exit code {code})"
                    if len(pack.specs) > 1:
                        emit(events.StackSplit(pack.signatures, reason))
                        waiting.extendleft(reversed(pack.halves()))
                    else:
                        emit(events.RunEnded(fail(pack, store, reason)))
                    continue
                if event is None:
                    worker.pack = None
                else:
                    emit(event)
    finally:
        for worker in crew:
            worker.pipe.close()
            if worker.pack is not None:
                worker.process.terminate()
        for worker in crew:
            worker.process.join(timeout=10)


def _hire(store: Store) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, store), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _exit_code(worker: _Worker) -> int | None:
    worker.process.join(timeout=10)
    return worker.process.exitcode


def _serve(pipe: Connection, store: Store) -> None:
    """A worker's life: train what comes through the pipe until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    import torch

    from normbench.work import work

    torch.set_num_threads(1)
    while True:
        try:
            pack = pipe.recv()
        except EOFError:
            return
        work(pack, store, pipe.send)
        pipe.send(None)
