"""A sweep as lines of text without control codes: for log files, pipes and continuous integration."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from normbench.events import Event, Notice, StackSplit, SweepStarted
from normbench.tracking import messages
from normbench.tracking.progress import Progress

INTERVAL_S = 10.0


class PlainView:
    """Says what was asked for, a line per ended stack, how far it is now and then, and how it ended.

    Args:
        out:   where the sweep is told.
        err:   where notices go.
        clock: seconds, from any origin.
    """

    def __init__(self, out: TextIO, err: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._err, self._clock = out, err, clock
        self._progress = Progress()
        self._last = clock()  # when progress was last told

    def notify(self, event: Event) -> None:
        now = self._clock()
        if isinstance(event, SweepStarted):
            self.close()
        elif isinstance(event, Notice):
            self._say(event.text, self._err)
        elif isinstance(event, StackSplit) and (stack := self._progress.stack_of(event.signatures)):
            self._say(messages.split(stack.spec, stack.runs, event.reason), self._err)
        ended = self._progress.apply(event, now)
        if isinstance(event, SweepStarted):
            self._say(messages.opening(self._progress), self._out)
            self._last = now
        elif ended is not None:
            self._say(messages.stack_ended(ended, self._progress, now), self._out)
        elif now - self._last >= INTERVAL_S and self._progress.stacks:
            self._say(messages.state(self._progress, now), self._out)
            self._last = now

    def close(self) -> None:
        if self._progress.to_train:
            self._say(messages.closing(self._progress, self._clock()), self._out)
        self._progress = Progress()

    @staticmethod
    def _say(text: str, stream: TextIO) -> None:
        print(text, file=stream, flush=True)
