"""Events as lines of JSON: what a job writes into a file, and what the command reads from it.

A record is not written again: it is in the store before its event is announced. So only its signature stands
in the line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from normbench import events
from normbench.events import Event
from normbench.record import Record
from normbench.store import Store

_KINDS: Mapping[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        events.StackStarted, events.StackLogged, events.StackSplit, events.StackPaused, events.RunsHeld,
        events.RunEnded, events.RunEndedElsewhere, events.RunEvaluated, events.EvaluationFailed,
        events.Notice,
    )
}  # fmt: skip
#: Reads after which a record that does not appear is given up. Network file systems show it within a minute.
PATIENCE = 60


class Began(NamedTuple):
    """A job began, for the first time or again after it was requeued: where, and in which process."""

    host: str
    pid: int


class End(NamedTuple):
    """A job ended.

    how:    done; stopped: it was asked to stop, and wrote checkpoints; broken; full: the store takes no more.
    reason: one line, if it broke.
    """

    how: str
    reason: str = ""


DONE, STOPPED, BROKEN, FULL = "done", "stopped", "broken", "full"


def line(message: Event | Began | End) -> str:
    """A message as one line.

    >>> line(events.StackPaused(("0a", "0b"), 7))
    '{"kind": "StackPaused", "signatures": ["0a", "0b"], "step": 7}\\n'
    """
    names = message._fields if isinstance(message, tuple) else [each.name for each in fields(message)]
    values = {name: getattr(message, name) for name in names}
    plain = {name: each.signature if isinstance(each, Record) else each for name, each in values.items()}
    return json.dumps({"kind": type(message).__name__, **plain}) + "\n"


def parsed(text: str, store: Store) -> Event | Began | End | None:
    """The message of a line; None if its record is not in the store yet.

    Raises:
        ValueError: it is no such line.
    """
    try:
        tree: dict[str, Any] = json.loads(text)
        kind = tree.pop("kind")
        if kind in ("Began", "End"):
            return (Began if kind == "Began" else End)(**tree)
        values = {name: tuple(each) if isinstance(each, list) else each for name, each in tree.items()}
        if "record" in values:
            record = store.get(str(values["record"]))
            if record is None:
                return None
            values["record"] = record
        made: Event = _KINDS[kind](**values)
    except (TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(f"no event: {text[:80]!r}") from error
    return made


class EventFile:
    """Reads the messages of a job as they come. Lines that cannot be read are skipped."""

    def __init__(self, file: Path, store: Store) -> None:
        self._file, self._store = file, store
        self._at = 0
        self._missed = 0

    def news(self) -> Iterator[Event | Began | End]:
        """The messages since the last call. A line without its end is read when it is whole."""
        try:
            with self._file.open("rb") as stream:
                stream.seek(self._at)
                whole, end, _ = stream.read().rpartition(b"\n")
        except OSError:
            return
        for text in whole.split(b"\n") if end else ():
            try:
                message = parsed(text.decode("utf-8"), self._store)
            except ValueError:
                message = None
                self._missed = PATIENCE
            if message is None and self._missed < PATIENCE:
                self._missed += 1
                return
            self._missed = 0
            self._at += len(text) + 1
            if message is not None:
                yield message
