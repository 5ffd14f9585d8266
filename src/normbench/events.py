"""Events that training announces, and the observers that receive them.

Events are small plain values, because they are sent between processes. Training does not know its observers,
and an observer that raises cannot harm a run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from normbench.record import Record


@dataclass(frozen=True)
class SweepStarted:
    """A sweep begins. Announced before the first stack."""

    runs: int  # distinct runs of the command
    finished: int  # runs that were finished before
    stacks: int  # stacks to train
    steps: int  # run-steps to train: the sum of the steps of all runs
    evaluations: int = 0  # finished runs that get more metrics without training
    varying: tuple[str, ...] = ()  # the fields in which the runs of the command differ, see `labels.varying`


@dataclass(frozen=True)
class RunFound:
    """A run of the command need not be trained by it: it was finished before."""

    record: Record


@dataclass(frozen=True)
class StackStarted:
    """A stack begins."""

    signatures: tuple[str, ...]  # of its runs, in the order of the pack
    specs: tuple[dict[str, Any], ...]  # one per run, as plain containers
    groups: tuple[str, ...]  # one per run: the hash of its identity without the seed
    steps: int  # length of the runs
    first_step: int  # 0, or more if the stack resumes


@dataclass(frozen=True)
class StackLogged:
    """One point of the training curve of every run: step, images_seen, epoch, train_loss and so on."""

    signatures: tuple[str, ...]
    step: int
    points: tuple[dict[str, float | None], ...]


@dataclass(frozen=True)
class StackSplit:
    """A stack failed, and its runs continue in smaller stacks or are tried again."""

    signatures: tuple[str, ...]
    reason: str  # one line
    then: str = "its runs continue in smaller stacks"


@dataclass(frozen=True)
class StackPaused:
    """A stack has stopped because the command was asked to end. Its runs go on from this step."""

    signatures: tuple[str, ...]
    step: int


@dataclass(frozen=True)
class RunsHeld:
    """Runs are not trained here, because other processes train them."""

    signatures: tuple[str, ...]


@dataclass(frozen=True)
class RunEnded:
    """A run has ended. Its record is on disk already."""

    record: Record


@dataclass(frozen=True)
class RunEndedElsewhere(RunFound):
    """A run of the command has ended in another process, which trained it at the same time."""


@dataclass(frozen=True)
class EvaluationFailed:
    """A finished run cannot be evaluated. It keeps its record. `reason` is one line."""

    signature: str
    reason: str


@dataclass(frozen=True)
class RunEvaluated:
    """A finished run got more metrics from its final state, without training."""

    record: Record  # with all metrics, including the added ones
    added: tuple[str, ...]  # names of the added metrics


@dataclass(frozen=True)
class Notice:
    """One line for the user, announced once."""

    text: str


Event = (
    SweepStarted
    | RunFound
    | StackStarted
    | StackLogged
    | StackSplit
    | StackPaused
    | RunsHeld
    | RunEnded
    | RunEndedElsewhere
    | RunEvaluated
    | EvaluationFailed
    | Notice
)


class Observer(Protocol):
    """Receives events. If it raises, the announcer reports it once and closes it."""

    def notify(self, event: Event) -> None: ...

    def close(self) -> None: ...


class Announcer:
    """Passes events to observers. An observer that raises is closed, reported once and removed."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = list(observers)

    def notify(self, event: Event) -> None:
        for observer in list(self._observers):
            if observer not in self._observers:
                continue  # it raised while it was told that another one stopped
            try:
                observer.notify(event)
            except Exception as error:
                self._drop(observer, error)

    def close(self) -> None:
        for observer in self._observers:
            with suppress(Exception):  # the records are on disk already
                observer.close()

    def _drop(self, observer: Observer, error: Exception) -> None:
        if observer not in self._observers:
            return
        self._observers.remove(observer)
        with suppress(Exception):
            observer.close()
        reason = f"{type(error).__name__}: {error}"
        text = f"{type(observer).__name__} stopped: {reason}; training continues without it"
        if self._observers:
            self.notify(Notice(text))
        else:
            print(text, file=sys.stderr)  # no observer is left to show it
