"""Weights & Biases as a listener: one wandb run per lane, alive while it trains.

wandb may be absent, hang or die without touching a run. So it is only called in the background, fed by a
queue: `notify` never waits, memory is bounded (points of curves are given up first, final results never), and
`close` waits for a limited time.
"""

from __future__ import annotations

import atexit
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Condition, Thread
from typing import Any, cast

from normbench.events import Event, RunEnded, StackLogged, StackStarted
from normbench.spec import TrackingSpec
from normbench.tracking.wandb_session import WandbSession

PATIENCE_S = 30.0
CAPACITY = 50_000  # points of curves in the queue, some 25 MB


class WandbRuns:
    """Hands a sweep's events to a `WandbSession` on a thread of its own.

    Args:
        spec:     the tracking part of the configuration.
        root:     the results folder; wandb writes to `root`/wandb.
        say:      told, in one line and once each, what the user should know; by `notify` and `close`, so on
                  the caller's thread.
        patience: seconds that `close` waits.
        capacity: points that may wait; what comes beyond is left out of wandb's curves.
    """

    def __init__(
        self,
        spec: TrackingSpec,
        root: Path,
        say: Callable[[str], None],
        *,
        patience: float = PATIENCE_S,
        capacity: int = CAPACITY,
    ) -> None:
        self._say, self._patience, self._capacity = say, patience, capacity
        self._notices: deque[str] = deque()
        self._session = WandbSession(spec, root, self._notices.append)
        self._thread: Thread | None = None
        self._changed = Condition()  # guards what follows
        self._queue: list[Event] = []
        self._points = 0
        self._closing = False
        self._fell_behind = False

    def notify(self, event: Event) -> None:
        match event:
            case StackStarted():
                self._start()
                self._put(event, 0)
            case StackLogged():
                self._put(event, len(event.points))
            case RunEnded(record=record):
                self._put(RunEnded(replace(record, history=())), 0)  # wandb had the curve point by point
        self._pass_on()

    def close(self) -> None:
        """Finish what is open, for `patience` seconds at most."""
        if self._thread is not None:
            with self._changed:
                self._closing = True
                self._changed.notify()
            self._thread.join(self._patience)
            if self._thread.is_alive():
                atexit.unregister(cast(Any, _HooksOfWandb()))
                self._notices.append(
                    f"wandb did not finish within {self._patience:.0f} s and is left behind; "
                    f"the local records are complete. Upload: {self._session.remedy}"
                )
            self._thread = None
        self._pass_on()

    def _start(self) -> None:
        if self._thread is None and not self._closing:
            self._thread = Thread(target=self._work, name="normbench-wandb", daemon=True)
            self._thread.start()

    def _put(self, event: Event, points: int) -> None:
        if self._thread is None or not self._session.alive:
            return
        with self._changed:
            if points and self._points + points > self._capacity:
                if not self._fell_behind:
                    self._notices.append(
                        "wandb falls behind: its curves miss points; history.jsonl has them all"
                    )
                self._fell_behind = True
                return
            self._queue.append(event)
            self._points += points
            self._changed.notify()

    def _pass_on(self) -> None:
        while self._notices:
            self._say(self._notices.popleft())

    def _work(self) -> None:
        while events := self._take():
            for event in events:
                self._session.handle(event)
            self._session.settle()
        self._session.close()

    def _take(self) -> list[Event]:
        """All that waits, as soon as there is something; nothing once closing."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            events, self._queue, self._points = self._queue, [], 0
            return events


class _HooksOfWandb:
    """Equal to every function of wandb: `atexit.unregister` compares, and wandb keeps its hook to itself.

    The hook waits for wandb's own process, for ever where that one hangs, and would keep ours from ending.
    """

    def __eq__(self, other: object) -> bool:
        return str(getattr(other, "__module__", None)).partition(".")[0] == "wandb"

    __hash__ = None  # type: ignore[assignment]  # for comparison alone
