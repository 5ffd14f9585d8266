"""What the engine announces, and who may listen.

Events are small plain values: they cross process borders. The engine does not know its listeners, and a
listener that breaks never reaches a run.
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
    """Before the first stack: how many runs were asked for, are finished already, and will be trained."""

    runs: int
    finished: int
    stacks: int
    steps: int  # run-steps to train: the sum of the steps of all runs
    evaluations: int = 0  # finished runs that get further metrics without training
    varying: tuple[str, ...] = ()  # the fields in which the runs asked for differ, as `labels.varying` says


@dataclass(frozen=True)
class RunFound:
    """A run that was asked for was finished before. Announced before the first stack, if there is one."""

    record: Record


@dataclass(frozen=True)
class StackStarted:
    """A stack begins; lanes are named by the signatures of their runs, in lane order."""

    signatures: tuple[str, ...]
    specs: tuple[dict[str, Any], ...]
    groups: tuple[str, ...]  # the signature without the seed, one per lane
    steps: int
    first_step: int  # > 0 where the stack resumes


@dataclass(frozen=True)
class StackLogged:
    """A point of the training curve, for every lane: step, images_seen, epoch, train_loss, and so on."""

    signatures: tuple[str, ...]
    step: int
    points: tuple[dict[str, float | None], ...]


@dataclass(frozen=True)
class StackSplit:
    """A stack broke and its runs go on in smaller stacks; `reason` says why in one line."""

    signatures: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class RunEnded:
    """A run has its record; the record is on disk already."""

    record: Record


@dataclass(frozen=True)
class RunEvaluated:
    """A finished run got more metrics from its final state, without training."""

    record: Record  # with all metrics, the added ones included
    added: tuple[str, ...]  # names of the metrics that it lacked before


@dataclass(frozen=True)
class Notice:
    """Something said once to the user, in one line."""

    text: str


Event = SweepStarted | RunFound | StackStarted | StackLogged | StackSplit | RunEnded | RunEvaluated | Notice


class Observer(Protocol):
    """A listener. Exceptions are caught by the caller, reported once, and the observer is dropped."""

    def notify(self, event: Event) -> None: ...

    def close(self) -> None: ...


class Announcer:
    """Hands events to observers; one that raises is closed, told about once and heard no more."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = list(observers)

    def notify(self, event: Event) -> None:
        for observer in list(self._observers):
            if observer not in self._observers:
                continue  # it broke on the news of another's end
            try:
                observer.notify(event)
            except Exception as error:
                self._drop(observer, error)

    def close(self) -> None:
        for observer in self._observers:
            with suppress(Exception):  # closing is a courtesy; the records are written
                observer.close()

    def _drop(self, observer: Observer, error: Exception) -> None:
        if observer not in self._observers:
            return
        self._observers.remove(observer)
        with suppress(Exception):
            observer.close()
        reason = f"{type(error).__name__}: {error}"
        text = f"{type(observer).__name__} stopped: {reason}; training goes on without it"
        if self._observers:
            self.notify(Notice(text))
        else:
            print(text, file=sys.stderr)  # nobody is left to show it
