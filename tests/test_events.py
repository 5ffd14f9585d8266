"""The announcer: every observer gets every event, and no observer can harm a run."""

from __future__ import annotations

import pytest

from normbench.events import Announcer, Event, Notice


class Listener:
    def __init__(self) -> None:
        self.heard: list[Event] = []
        self.closed = False

    def notify(self, event: Event) -> None:
        self.heard.append(event)

    def close(self) -> None:
        self.closed = True


class Broken(Listener):
    def notify(self, event: Event) -> None:
        super().notify(event)
        raise ConnectionResetError("gone")

    def close(self) -> None:
        raise RuntimeError("cannot close either")


def test_every_observer_gets_every_event_in_order() -> None:
    first, second = Listener(), Listener()
    announcer = Announcer([first, second])
    announcer.notify(Notice("one"))
    announcer.notify(Notice("two"))
    assert first.heard == second.heard == [Notice("one"), Notice("two")]


def test_an_observer_that_raises_is_removed_and_reported_once() -> None:
    broken, listener = Broken(), Listener()
    announcer = Announcer([broken, listener])
    for text in ("one", "two", "three"):
        announcer.notify(Notice(text))
    assert broken.heard == [Notice("one")]
    told = [e.text for e in listener.heard if isinstance(e, Notice) and "Broken" in e.text]
    assert told == ["Broken stopped: ConnectionResetError: gone; training continues without it"]
    assert [e for e in listener.heard if e in (Notice("one"), Notice("two"), Notice("three"))] == [
        Notice("one"),
        Notice("two"),
        Notice("three"),
    ]


def test_all_observers_may_raise_at_the_same_event(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = Broken(), Broken()
    announcer = Announcer([first, second])
    announcer.notify(Notice("one"))
    announcer.notify(Notice("two"))
    assert Notice("two") not in first.heard + second.heard
    assert (
        capsys.readouterr().err.count("Broken stopped") == 1
    )  # the last one, when no observer is left to show it


def test_an_observer_that_is_removed_is_closed() -> None:
    class Raising(Listener):
        def notify(self, event: Event) -> None:
            raise BrokenPipeError

    raising = Raising()
    Announcer([raising, Listener()]).notify(Notice("one"))
    assert raising.closed  # otherwise a live view would leave the terminal without its cursor


def test_if_one_observer_cannot_close_the_others_are_still_closed() -> None:
    class Stuck(Listener):
        def close(self) -> None:
            raise OSError("no space left on device")

    listener = Listener()
    Announcer([Stuck(), listener]).close()
    assert listener.closed
