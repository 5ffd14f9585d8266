"""A worker process: it runs jobs that come through a pipe, and never outlives its parent.

If the parent ends, or a signal asks the worker to end, training first writes a checkpoint. A parent that does
not listen any more is no failure of a run: the events are dropped, and training stops likewise.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, NamedTuple

from normbench import events
from normbench.errors import InputError, RunFailure, StoreFailure, reason
from normbench.parts import Plugin
from normbench.plugins import loading
from normbench.sweeps.periodically import periodically
from normbench.sweeps.stopping import SIGNALS, STOP, Stopped
from normbench.uncollected import uncollected

Emit = Callable[[events.Event], None]
Job = Callable[[Callable[[Any], None]], None]  # gets a function that sends a message to the parent

#: Messages beside events: the job has begun; the job makes progress. None says that it is done.
BEGUN, BEAT = "begun", "beat"
#: Seconds in which training must have written a checkpoint after the parent has ended.
GRACE_S = 30.0
#: Share of a core that a job uses at least, if it makes progress outside training steps.
BUSY = 0.05


class Broken(NamedTuple):
    """A job raised an error that it should not raise. `reason` is one line."""

    reason: str


class Answer(NamedTuple):
    """The result of a job of `WorkerPool.run_on_all`, which may be anything, None too."""

    result: Any


class Line:
    """The sending end of the pipe to the parent, for two threads."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._lock = pipe, threading.Lock()

    def send(self, message: Any) -> None:
        """Send a message. If the parent has ended, ask training to stop."""
        with self._lock:
            self._send(message)

    def beat(self) -> None:
        """Say that the job makes progress, unless another message is being sent."""
        if self._lock.acquire(blocking=False):
            try:
                self._send(BEAT)
            finally:
                self._lock.release()

    def _send(self, message: Any) -> None:
        try:
            self._pipe.send(message)
        except OSError:
            STOP.ask(signal.SIGTERM)


class Watcher:
    """Called every second: ends the process after its parent, and tells the parent of progress.

    In training, progress is another step. Outside it, for example in an evaluation, progress is use of the
    processor.

    Args:
        line:   to the parent.
        parent: its number.
        clock:  seconds, from any origin.
    """

    def __init__(self, line: Line, parent: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.line, self.parent, self.clock = line, parent, clock
        self.orphaned: float | None = None
        self.step, self.used, self.at = 0, time.process_time(), clock()

    def __call__(self) -> None:
        now = self.clock()
        if os.getppid() != self.parent:
            if self.orphaned is None:
                self.orphaned = now
            STOP.ask(signal.SIGTERM)
            if not STOP.training or now - self.orphaned > GRACE_S:
                os._exit(1)
        if self.moves(now):
            self.line.beat()

    def moves(self, now: float) -> bool:
        """Whether the job has made progress since the last call."""
        step, used = STOP.pulse.step, time.process_time()
        busy = used - self.used >= BUSY * (now - self.at)
        moved = step != self.step if STOP.pulse.stepping else busy
        self.step, self.used, self.at = step, used, now
        return moved


def serve(pipe: Connection, parent: int, plugins: Sequence[Plugin] = ()) -> None:
    """The loop of a worker process: load the plugins, and run the jobs from the pipe until it closes."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end_after_training)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    line = Line(pipe)
    with periodically(1.0, Watcher(line, parent)):
        with uncollected():
            import torch

            import_module("normbench.sweeps.worker")  # PERF: while the parent reads the data
        torch.set_num_threads(1)
        while STOP.signal is None:
            try:
                job: Job = pipe.recv()
            except (EOFError, OSError):
                return
            line.send(BEGUN)
            _run(job, line, plugins)
    sys.exit(128 + STOP.signal)


def _run(job: Job, line: Line, plugins: Sequence[Plugin]) -> None:
    STOP.pulse.stepping = False
    try:
        loading.again(plugins)
    except InputError as error:  # a plugin that no longer loads, or has changed
        line.send(RunFailure(str(error)))
        line.send(None)
        return
    try:
        job(line.send)
        line.send(None)
    except Stopped:
        return  # the parent sees that the pipe closes
    except StoreFailure as failure:
        line.send(failure)
    except Exception as error:
        line.send(Broken(reason(error)))
        line.send(None)


def _end_after_training(number: int, frame: FrameType | None) -> None:
    if STOP.training:
        STOP.ask(number)
    else:
        os._exit(128 + number)
