"""Processes that share a results folder: which one this is, and whether another one has ended."""

from __future__ import annotations

import hashlib
import os
import platform
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")


class Process(NamedTuple):
    """A process, wherever it runs.

    Attributes:
        host:    name of its machine, for people.
        place:   eight hex digits; equal for processes that see each other under the same numbers: those of
                 one machine since its last start, and of one container.
        pid:     its number there.
        started: when it started, in the words of the system; empty if the system does not say it.
    """

    host: str
    place: str
    pid: int
    started: str

    def __str__(self) -> str:
        return f"{self.host} pid {self.pid}"


def this_process() -> Process:
    """The process that calls."""
    return _this_process(os.getpid())


@lru_cache(maxsize=2)  # by number, because a forked process inherits the cache
def _this_process(pid: int) -> Process:
    return process(pid)


def process(pid: int) -> Process:
    """A process of this machine by its number."""
    return Process(platform.node() or "localhost", place(), pid, _started(pid) or "")


@lru_cache(maxsize=1)
def place() -> str:
    """The place of this process, see `Process`."""
    parts = [platform.node()]
    for read in (_boot, _namespace):
        try:
            parts.append(read())
        except OSError:
            continue
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def has_ended(process: Process) -> bool:
    """Whether a process has surely ended. False if it runs elsewhere: nobody can tell from here."""
    return process.place == place() and not is_running(process.pid, process.started)


def is_running(pid: int, started: str = "") -> bool:
    """Whether a process of this place runs. A stopped one runs; one that only waits for its parent does not.

    Args:
        started: as in `Process`; another one has got the number since if it does not match.
    """
    if (_PROC / "self").exists():
        found = _started(pid)
        return found is not None and started in ("", found)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to another user
        return True
    return True


def _started(pid: int) -> str | None:
    """Clock ticks from the start of the machine to that of a process; None if it has ended."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may contain anything
    return None if fields[0] in ("Z", "X") else fields[19]


def _boot() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _namespace() -> str:
    return (_PROC / "self/ns/pid").readlink().name
