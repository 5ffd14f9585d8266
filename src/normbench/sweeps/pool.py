"""Worker processes for the packs of a plan: one single-threaded process per core, or one per GPU.

The parent sends each free worker a pack, with the data in shared memory, and receives events. If a worker
dies or hangs, its pack is halved and sent to other workers. A lone run whose worker died is tried again once,
then recorded as failed. A worker that dies before it begins is replaced, and its pack is not blamed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import wait
from typing import Any, TypeVar

from normbench import events
from normbench.errors import RunFailure, reason
from normbench.sweeps.plan import Pack
from normbench.sweeps.stopping import STOP
from normbench.sweeps.worker_handle import HANGING_S, Worker, spawn
from normbench.sweeps.worker_process import BEAT, BEGUN, Answer, Broken, Emit, Job

T = TypeVar("T")

#: So many workers in a row may die before they begin.
STILLBORN = 3
#: Seconds in which workers that were asked to stop must have written their checkpoints.
GRACE_S = 30.0


@dataclass
class WorkerPool:
    """Worker processes that share a queue of packs.

    They start immediately and import torch while the parent reads the data.

    Args:
        size: their number.
        gpus: the GPU of each, as in CUDA_VISIBLE_DEVICES; empty: all see those of this process.
    """

    size: int
    gpus: Sequence[str | None] = ()
    workers: list[Worker] = field(default_factory=list)
    stillborn: int = 0
    asked: float | None = None  # when the workers were asked to stop
    checked: float = field(default_factory=time.monotonic)  # when hanging workers were last looked for

    def __post_init__(self) -> None:
        self.workers = [spawn(gpu) for gpu in (self.gpus[: self.size] or (None,) * self.size)]

    def run_on_all(self, job: Callable[[], T]) -> list[T]:
        """Run one job in all workers at the same time, and return their results.

        Raises:
            RunFailure: the job failed in a worker, or a worker died.
        """
        for worker in self.workers:
            with suppress(OSError):  # it has died; `_answer` says so
                worker.pipe.send(partial(_send_result, job))
        results = [self._answer(worker) for worker in list(self.workers)]
        if failures := [result for result in results if isinstance(result, RunFailure)]:
            raise failures[-1]
        return results

    def _answer(self, worker: Worker) -> Any:
        """The result of a worker; a RunFailure if the job failed or the worker died."""
        result: Any = None
        try:
            while (message := worker.pipe.recv()) is not None:
                if isinstance(message, Answer):
                    result = message.result
                elif isinstance(message, Broken):
                    result = RunFailure(message.reason)
        except (EOFError, OSError):
            why = worker.why_ended().removeprefix("its ")
            self._replace(worker)
            return RunFailure(f"a {why}")
        return result

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
            give_up: handles a lone run whose worker died twice, with the reason, and returns an event.

        Raises:
            StoreFailure: the store cannot be written.
            RunFailure:   no worker process can begin, or a plugin has changed.
            Stopped:      the process was asked to stop. The workers have written checkpoints.
        """
        waiting = deque(packs)
        with STOP.while_training():
            while True:
                if STOP.signal is None:
                    self._assign(waiting, job_of)
                busy = [worker for worker in self.workers if worker.pack is not None]
                if not busy and (STOP.signal is not None or not waiting):
                    break
                if STOP.signal is not None:
                    self._stop(busy)
                for pipe in wait([worker.pipe for worker in busy], timeout=1.0):
                    worker = next(w for w in busy if w.pipe is pipe)
                    self._hear(worker, waiting, emit, give_up)
                self._end_hanging()
        STOP.check()

    def _assign(self, waiting: deque[Pack], job_of: Callable[[Pack], Job]) -> None:
        """Give packs to the workers that have none."""
        for worker in list(self.workers):
            if worker.pack is None and waiting:
                pack = waiting.popleft()
                if not worker.give(pack, job_of(pack), time.monotonic()):
                    self._bury_stillborn(worker)
                    waiting.appendleft(pack)

    def _hear(
        self,
        worker: Worker,
        waiting: deque[Pack],
        emit: Emit,
        give_up: Callable[[Pack, str], events.Event],
    ) -> None:
        """Receive one message of a worker. If it died or its job broke, decide about its pack."""
        pack = worker.pack
        assert pack is not None
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            if STOP.signal is not None:
                worker.pack = None  # it has stopped as it was asked to
            elif worker.begun:
                why = worker.why_ended()
                self._replace(worker)
                try_again(pack, why, waiting, emit, give_up)
            else:
                self._bury_stillborn(worker)
                waiting.appendleft(pack)
            return
        worker.hear(time.monotonic())
        if message == BEGUN:
            worker.begun, self.stillborn = True, 0
        elif message is None:
            worker.pack = None
        elif isinstance(message, RunFailure):
            raise message
        elif isinstance(message, Broken):
            try_again(pack, message.reason, waiting, emit, give_up)
        elif message != BEAT:
            emit(message)

    def _bury_stillborn(self, worker: Worker) -> None:
        """Replace a worker that died before it began.

        Raises:
            RunFailure: too many in a row did.
        """
        self.stillborn += 1
        why = worker.why_ended()
        self._replace(worker)
        if self.stillborn >= STILLBORN:
            raise RunFailure(f"no worker process can begin: {why}; engine.processes=1 needs none")

    def _end_hanging(self) -> None:
        """Kill the workers that hang. If this process itself was stopped meanwhile, count anew."""
        now = time.monotonic()
        slept, self.checked = now - self.checked > HANGING_S / 2, now
        for worker in self.workers:
            if slept:
                worker.heard = now
            elif worker.hangs(now) and not worker.ended:
                worker.ended = f"it made no progress for {now - worker.heard:.0f} s and was ended"
                worker.process.kill()

    def _stop(self, busy: Sequence[Worker]) -> None:
        """Ask working workers once to write checkpoints and end; kill them after GRACE_S."""
        now = time.monotonic()
        if self.asked is None:
            self.asked = now
            for worker in busy:
                worker.process.terminate()
        elif now - self.asked > GRACE_S:
            for worker in busy:
                worker.process.kill()

    def _replace(self, dead: Worker) -> None:
        dead.pipe.close()
        self.workers[self.workers.index(dead)] = spawn(dead.gpu)

    def close(self, *, now: bool = False) -> None:
        """End all workers, even if they are working; `now` leaves them no time for a checkpoint."""
        for worker in self.workers:
            worker.pipe.close()
            if now:
                worker.process.kill()
            else:
                worker.process.terminate()
        for worker in self.workers:
            worker.process.join(timeout=10)
            worker.process.kill()


def try_again(
    pack: Pack,
    why: str,
    waiting: deque[Pack],
    emit: Emit,
    give_up: Callable[[Pack, str], events.Event],
) -> None:
    """Queue a pack that broke, in halves or once more, or give it up."""
    again = pack.after_failure()
    if not again:
        emit(give_up(pack, why))
    elif len(again) > 1:
        emit(events.StackSplit(pack.signatures, why))
        waiting.extendleft(reversed(again))
    else:
        emit(events.StackSplit(pack.signatures, why, "it is tried again"))
        waiting.extend(again)  # last, when fewer stacks need memory


def _send_result(job: Callable[[], Any], send: Callable[[Any], None]) -> None:
    try:
        result = job()
    except Exception as error:
        result = RunFailure(reason(error))
    send(Answer(result))
