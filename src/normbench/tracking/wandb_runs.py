"""Weights & Biases as an observer: one wandb run per run, live while the run trains.

wandb may be absent, hang or die without any effect on training. A background thread reads events from a queue
and passes them to a process that calls wandb. `notify` never waits. Memory is bounded: points of curves are
dropped if the queue is full, final results are never dropped. `close` waits for a limited time, then it kills
that process and wandb-core.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Condition, Thread

from normbench.errors import reason
from normbench.events import (
    Event,
    RunEnded,
    RunEvaluated,
    RunFound,
    StackLogged,
    StackStarted,
    SweepStarted,
)
from normbench.spec import TrackingSpec
from normbench.tracking.sweep_summary import Summarize
from normbench.tracking.wandb_process import WandbProcess
from normbench.tracking.wandb_session import WandbSession
from normbench.tracking.wandb_setup import UPLOAD, agent_run

CLOSE_TIMEOUT_S = 30.0
MAX_POINTS = 50_000  # points of curves in the queue, about 24 MiB


class WandbRuns:
    """Passes events to a `WandbSession` in a process of its own, on a background thread.

    Args:
        spec:          the tracking part of the configuration.
        root:          the results folder; wandb writes to `root`/wandb.
        notice:        called with one line for the user, by `notify` and `close` on the caller's thread.
        summarize:     makes the table of the sweep; None: there is no summary run.
        close_timeout: seconds that `close` waits at most.
        max_points:    points of curves that may wait in the queue; further points are dropped.
    """

    def __init__(
        self,
        spec: TrackingSpec,
        root: Path,
        notice: Callable[[str], None],
        summarize: Summarize | None = None,
        *,
        close_timeout: float = CLOSE_TIMEOUT_S,
        max_points: int = MAX_POINTS,
    ) -> None:
        self._notice, self._close_timeout, self._max_points = notice, close_timeout, max_points
        self._notices: deque[str] = deque()
        make = partial(WandbSession, spec, root, summarize=summarize)
        self._process = WandbProcess(make, root, self._notices.append)
        self._alive = True  # False if nothing more will be tracked
        self._has_agent = agent_run() is not None  # it also wants the runs that were finished before
        self._thread: Thread | None = None
        self._changed = Condition()  # guards the fields below
        self._queue: list[Event] = []
        self._points = 0
        self._closing = False
        self._dropped_points = False
        self._told_to_upload = False

    def notify(self, event: Event) -> None:
        match event:
            case SweepStarted():
                self._put(event, 0)  # waits for the first run: wandb is not needed before
            case StackStarted():
                self._start()
                self._put(event, 0)
            case RunFound() | RunEvaluated():
                if self._has_agent:
                    self._start()
                self._put(event, 0)  # else it waits for the first run, as it is for the summary alone
            case StackLogged():
                self._put(event, len(event.points))
            case RunEnded(record=record):
                self._put(RunEnded(replace(record, history=())), 0)  # wandb already has the points
        self._deliver_notices()

    def close(self) -> None:
        """Finish the open wandb runs. Waits `close_timeout` seconds at most."""
        if self._thread is not None:
            with self._changed:
                self._closing = True
                self._changed.notify()
            self._thread.join(self._close_timeout)
            if self._thread.is_alive():
                self._alive = False
                self._process.kill()
                self._say(f"wandb did not finish within {self._close_timeout:.0f} s and was ended")
            self._thread = None
        self._deliver_notices()

    def _start(self) -> None:
        if self._thread is None and not self._closing:
            self._thread = Thread(target=self._consume, name="normbench-wandb", daemon=True)
            self._thread.start()

    def _put(self, event: Event, points: int) -> None:
        waits = isinstance(event, SweepStarted | RunFound | RunEvaluated) and not self._closing
        if not (self._thread or waits) or not self._alive:
            return
        with self._changed:
            if points and self._points + points > self._max_points:
                if not self._dropped_points:
                    self._notices.append(
                        "wandb is too slow: its curves miss points; history.jsonl has them all"
                    )
                self._dropped_points = True
                return
            self._queue.append(event)
            self._points += points
            self._changed.notify()

    def _say(self, text: str) -> None:
        self._notices.append(f"{text}; the local records are complete. To upload: {UPLOAD}")

    def _deliver_notices(self) -> None:
        """Pass notices on. That data is lacking and how to upload it is said once."""
        while self._notices:
            text = self._notices.popleft()
            if f"To upload: {UPLOAD}" in text:
                if self._told_to_upload:
                    continue
                self._told_to_upload = True
            self._notice(text)

    def _consume(self) -> None:
        try:
            while events := self._take():
                if self._alive:
                    self._alive = self._process.call("handle_all", events)
            if self._alive:
                self._process.call("close")
        except Exception as error:
            if self._alive:  # else `close` has ended it and says so
                self._say(f"wandb failed, nothing more is tracked ({reason(error)})")
            self._alive = False
        self._process.end()

    def _take(self) -> list[Event]:
        """Wait for events and return them all; an empty list means that the observer is closing."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            events, self._queue, self._points = self._queue, [], 0
            return events
