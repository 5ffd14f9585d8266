"""A worker process as its parent sees it: what it works on, and whether it hangs."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from normbench.plugins import loading
from normbench.sweeps.plan import Pack
from normbench.sweeps.worker_process import Job, serve

#: Names the GPUs that a process sees.
VARIABLE = "CUDA_VISIBLE_DEVICES"

#: A worker hangs if it says nothing for HANGING times its longest silence so far, and at least for HANGING_S.
HANGING, HANGING_S = 20.0, 300.0


@dataclass
class Worker:
    """A process, the pipe to it, and the pack that it works on.

    begun:   whether it has begun with the pack.
    heard:   when it last said something, on the clock of the pool.
    silence: its longest silence in this pack, in seconds.
    ended:   why the pool has killed it; empty if it has not.
    gpu:     the only GPU that it sees, as in CUDA_VISIBLE_DEVICES; None: it sees those of its parent.
    """

    process: BaseProcess
    pipe: Connection
    pack: Pack | None = None
    begun: bool = False
    heard: float = 0.0
    silence: float = 0.0
    ended: str = ""
    gpu: str | None = None

    def give(self, pack: Pack, job: Job, now: float) -> bool:
        """Send a pack. False if the process has ended."""
        self.pack, self.begun, self.heard, self.silence = pack, False, now, 0.0
        try:
            self.pipe.send(job)
        except OSError:
            return False
        return True

    def hear(self, now: float) -> None:
        """Note that it has said something."""
        self.silence = max(self.silence, now - self.heard)
        self.heard = now

    def hangs(self, now: float) -> bool:
        """Whether it works and has been silent for too long by its own pace."""
        return self.pack is not None and now - self.heard > max(HANGING_S, HANGING * self.silence)

    def why_ended(self) -> str:
        """Why a process whose pipe has closed has ended. Waits until it has."""
        self.process.join(timeout=10)
        return self.ended or f"its worker process died (exit code {self.process.exitcode})"


def spawn(gpu: str | None = None) -> Worker:
    """Start a worker process. It imports torch while this process goes on.

    Args:
        gpu: the only GPU that it sees, as in CUDA_VISIBLE_DEVICES; None: it sees those of this process.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, os.getpid(), loading.loaded()), daemon=True)
    with _seeing(gpu):
        process.start()
    theirs.close()
    return Worker(process, ours, gpu=gpu)


@contextmanager
def _seeing(gpu: str | None) -> Iterator[None]:
    """Processes that start meanwhile see one GPU. CUDA reads the variable once, so it is set before."""
    before = os.environ.get(VARIABLE)
    if gpu is not None:
        os.environ[VARIABLE] = gpu
    try:
        yield
    finally:
        if before is not None:
            os.environ[VARIABLE] = before
        elif gpu is not None:
            del os.environ[VARIABLE]
