"""A submitted job as the command that follows it sees it: which of its runs are open, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from normbench import events
from normbench.events import Event
from normbench.spec import RunSpec
from normbench.sweeps.executors.event_lines import Began, End, EventFile
from normbench.sweeps.executors.ledger import Submission
from normbench.sweeps.plan import Pack


@dataclass
class Followed:
    """A job of this command or an earlier one.

    Attributes:
        submission: that it belongs to.
        number:     of the job there.
        file:       of its events.
        open:       runs that this command wants from it and that have not ended.
        attempt:    of its pack, see `Pack`.
        began:      the process, if it has begun.
        end:        how it ended, if it said so. A job that begins again has not ended.
        unseen:     looks at the queue in a row that did not show it.
    """

    submission: Submission
    number: int
    file: EventFile
    open: dict[str, RunSpec]
    attempt: int = 1
    began: Began | None = None
    end: End | None = None
    unseen: int = 0
    wanted: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.wanted = frozenset(self.open)

    @property
    def key(self) -> tuple[str, int]:
        """What the queue knows it by."""
        return self.submission.name, self.number

    @property
    def rest(self) -> Pack:
        """The open runs."""
        return Pack(tuple(self.open.values()), self.attempt)

    def news(self) -> list[Event]:
        """The events since the last call that concern the runs of this command."""
        found: list[Event] = []
        for message in self.file.news():
            if isinstance(message, Began):
                self.began, self.end = message, None
            elif isinstance(message, End):
                self.end = message
            elif isinstance(message, events.Notice) or self.wanted.intersection(_runs(message)):
                found.append(message)
                self._close(message)
        return found

    def _close(self, event: Event) -> None:
        if isinstance(event, (events.RunFound, events.RunEnded, events.RunEvaluated)):
            self.open.pop(event.record.signature, None)
        elif isinstance(event, events.EvaluationFailed):
            self.open.pop(event.signature, None)
        elif isinstance(event, events.RunsHeld):
            for signature in event.signatures:
                self.open.pop(signature, None)


def _runs(event: Event) -> Sequence[str]:
    """Signatures of the runs that an event is about."""
    if isinstance(event, (events.RunFound, events.RunEnded, events.RunEvaluated)):
        return (event.record.signature,)
    if isinstance(event, events.EvaluationFailed):
        return (event.signature,)
    return getattr(event, "signatures", ())
