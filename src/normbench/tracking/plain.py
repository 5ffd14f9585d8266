"""A sweep as plain lines without control codes, for log files, pipes and continuous integration."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from normbench.events import Event, Notice, RunEvaluated, StackSplit, SweepStarted
from normbench.tracking import messages
from normbench.tracking.progress import Progress
from normbench.visible import visible

INTERVAL_S = 10.0


class PlainView:
    """Prints a first line, a line per result, progress every INTERVAL_S seconds, and a last line.

    Args:
        out:   the stream for the sweep.
        err:   the stream for notices.
        clock: seconds, from any origin.
    """

    def __init__(self, out: TextIO, err: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._err, self._clock = out, err, clock
        self._progress = Progress()
        self._last_line = clock()  # s: when progress was last printed

    def notify(self, event: Event) -> None:
        now = self._clock()
        if isinstance(event, SweepStarted):
            self.close()
        elif isinstance(event, Notice):
            self._print(event.text, self._err)
        elif isinstance(event, StackSplit) and (stack := self._progress.stack_of(event.signatures)):
            self._print(messages.split(stack, self._progress, event.reason, event.then), self._err)
        ended = self._progress.apply(event, now)
        if isinstance(event, SweepStarted):
            self._print(messages.opening(self._progress), self._out)
            self._last_line = now
        elif ended is not None:
            for group in ended.groups.values():
                self._print(messages.result(group, ended, self._progress, now), self._out)
        elif isinstance(event, RunEvaluated):
            self._print(messages.evaluated(event.record, event.added, self._progress), self._out)
        elif now - self._last_line >= INTERVAL_S and self._progress.stacks:
            self._print(messages.state(self._progress, now), self._out)
            self._last_line = now

    def close(self) -> None:
        if self._progress.to_train:
            self._print(messages.closing(self._progress, self._clock()), self._out)
        self._progress = Progress()

    @staticmethod
    def _print(text: str, stream: TextIO) -> None:
        print(visible(text), file=stream, flush=True)
