"""An observer for tests: it keeps the events that it is told of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from normbench import events


class Log:
    """Keeps its events in order; "closed" stands for the end.

    Args:
        on: called with every event after it was kept. It may raise, as an observer or a signal does.
    """

    def __init__(self, on: Callable[[Any], None] = lambda event: None) -> None:
        self.events: list[Any] = []
        self.on = on

    def notify(self, event: Any) -> None:
        self.events.append(event)
        self.on(event)

    def close(self) -> None:
        self.events.append("closed")

    def of(self, kind: type) -> list[Any]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def notices(self) -> list[str]:
        """The texts of the notices."""
        return [event.text for event in self.of(events.Notice)]
