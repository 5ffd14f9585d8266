"""A sweep on a terminal: a view that is redrawn in place, and lasting lines above it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from normbench.events import Event, Notice, RunEvaluated, StackSplit, SweepStarted
from normbench.record import FAILED
from normbench.tracking import messages
from normbench.tracking.progress import Progress
from normbench.visible import visible

INTERVAL_S = 0.25


class LiveView:
    """A header, a bar, and rows for the stacks that train. Results, splits and notices are printed above.

    `notify` alone draws, at most every INTERVAL_S seconds: no thread reads the state while it changes.

    Args:
        console: the terminal.
        err:     a stream for notices; None prints them on the terminal.
        clock:   seconds, from any origin.
    """

    def __init__(
        self, console: Console, err: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console, self._err, self._clock = console, err, clock
        self._progress = Progress()
        self._live: Live | None = None
        self._last_draw = 0.0  # s, on the clock

    @classmethod
    def on_stdout(cls) -> LiveView:
        """The view of this process. Notices go to stderr if stderr is not a terminal."""
        return cls(Console(file=sys.stdout), None if sys.stderr.isatty() else sys.stderr)

    def notify(self, event: Event) -> None:
        now = self._clock()
        if isinstance(event, SweepStarted):
            self.close()
        elif isinstance(event, Notice):
            self._warn(event.text)
        elif isinstance(event, StackSplit) and (stack := self._progress.stack_of(event.signatures)):
            self._warn(messages.split(stack, self._progress, event.reason, event.then))
        ended = self._progress.apply(event, now)
        if isinstance(event, SweepStarted):
            self._start()
        elif ended is not None:
            for group in ended.groups.values():
                style = "red" if group.statuses[FAILED] else ""
                self._say(messages.result(group, ended, self._progress, now), style)
        elif isinstance(event, RunEvaluated):
            self._say(messages.evaluated(event.record, event.added, self._progress), "")
        if self._live is not None and (ended is not None or now - self._last_draw >= INTERVAL_S):
            self._live.update(self._view(now), refresh=True)
            self._last_draw = now

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
            failed = self._progress.statuses[FAILED]
            self._say(messages.closing(self._progress, self._clock()), "red" if failed else "")
        self._progress = Progress()

    def _start(self) -> None:
        if not self._progress.to_train:
            self._say(messages.opening(self._progress), "")
            return
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stderr=self._err is None
        )
        self._live.start()

    def _warn(self, text: str) -> None:
        if self._err is None:
            self._say(text, "yellow")
        else:
            print(visible(text), file=self._err, flush=True)

    def _say(self, text: str, style: str) -> None:
        self._console.print(Text(visible(text), style=style), soft_wrap=True)

    def _view(self, now: float) -> RenderableType:
        progress = self._progress
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(total=max(progress.sweep.steps, 1), completed=progress.done, width=20),
            Text(messages.state(progress, now), overflow="ellipsis", no_wrap=True),
        )
        header = f"{messages.opening(progress)} · {progress.ended} ended"
        return Group(Text(header, style="bold"), bar, self._stack_rows())

    def _stack_rows(self) -> RenderableType:
        max_rows = max(3, self._console.height - 6)
        table = Table.grid(padding=(0, 2))
        table.add_column()
        table.add_column(justify="right")
        table.add_column(justify="right")
        rows = [(group, stack) for stack in self._progress.stacks for group in stack.groups.values()]
        for group, stack in rows[:max_rows]:
            loss = group.train_loss
            table.add_row(
                Text(visible(messages.group_title(group, self._progress))),
                Text(f"step {stack.step:,}/{stack.steps:,}"),
                Text("" if loss is None else f"train_loss {loss:.4f}"),
            )
        more = len(rows) - max_rows
        return Group(table, Text(f"… and {more} more", style="dim")) if more > 0 else table
