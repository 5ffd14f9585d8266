"""Requests to stop: a signal asks this process to end, and training ends at the next step.

The first request lets training write a checkpoint. The second one ends the process at once. Outside training
the first one ends it too.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from normbench.engine.pulse import Pulse
from normbench.errors import KEPT, Interrupted

#: Signals that ask a process to end: Ctrl-C, kill, and a closed terminal. Windows lacks the last one.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


#: In place of a signal: a run failed, and `on_error=stop` was asked for.
ON_ERROR = 0


class Stopped(Exception):
    """Training has ended because the process was asked to stop. The checkpoints are written."""


class StopRequest:
    """Whether this process was asked to stop.

    Attributes:
        signal:   number of the signal; None while there was none.
        pulse:    of the training in this process.
        training: whether the process trains, so that a request waits for a checkpoint.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.pulse = Pulse()
        self.training = False

    def ask(self, number: int) -> None:
        """Ask training to stop after the present step."""
        if self.signal is None:
            self.signal = number
        self.pulse.wanted = True

    def check(self) -> None:
        """Raise if there was a request.

        Raises:
            Stopped: training must end.
        """
        if self.signal is not None:
            raise Stopped

    @contextmanager
    def while_training(self) -> Iterator[None]:
        """Requests wait for a checkpoint meanwhile."""
        before, self.training = self.training, True
        try:
            yield
        finally:
            self.training = before

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Listen to the signals meanwhile, in the main thread. Ignored signals stay ignored (nohup).

        Raises:
            Interrupted: a signal came outside training, or a second one.
        """
        self.signal = None
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}
        heard = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
        try:
            for number in heard:
                signal.signal(number, self._hear)
            yield
        finally:
            for number in heard:
                signal.signal(number, before[number])

    def _hear(self, number: int, frame: FrameType | None) -> None:
        first = self.signal is None
        self.ask(number)
        if not (first and self.training):
            raise Interrupted(number, f"interrupted; {KEPT}")


#: The request to this process. A process has one, because signals belong to processes.
STOP = StopRequest()
