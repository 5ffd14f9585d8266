"""Runs without a record: the step of their checkpoint, and who trains them. Never imports torch."""

from __future__ import annotations

import json
import os
import pickletools
import time
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

from normbench.phrases import lasting

LEASE = "lease.json"
#: Seconds after its last renewal in which a lease counts as held. Holders renew theirs every ten seconds.
HELD_S = 60


class Holder(NamedTuple):
    """Who trains a run now.

    Attributes:
        who:  host and process, as far as the lease says it.
        step: finished steps; None if the lease does not say it.
        seen: seconds since the lease was last renewed.
    """

    who: str
    step: int | None
    seen: float

    @property
    def note(self) -> str:
        return f"trained by {self.who}, seen {lasting(self.seen)} ago"


def holder_of(folder: Path) -> Holder | None:
    """Who trains the run of a folder, by its lease; None if nobody does, or if that is not known."""
    file = folder / LEASE
    try:
        seen = time.time() - file.stat().st_mtime
        lease: Any = json.loads(file.read_text(encoding="utf-8")) if seen <= HELD_S else None
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(lease, dict):
        return None
    held = lease["holder"] if isinstance(lease.get("holder"), dict) else lease
    parts = (f"{key} {held[key]}" for key in ("host", "pid") if isinstance(held.get(key), str | int))
    step = lease.get("step")
    return Holder(" ".join(parts) or "another process", step if type(step) is int else None, max(0.0, seen))


def checkpoint_step(file: Path) -> int | None:
    """The step of a checkpoint; None if there is none or it cannot be read.

    Reads the instructions of its pickle and executes none of them.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            name = next(each for each in archive.namelist() if each.endswith("/data.pkl"))
            content = archive.read(name)
        named = False
        for operation, value, _ in pickletools.genops(content):
            if named and isinstance(value, int) and not operation.name.endswith("PUT"):
                return value
            named = value == "step" or (named and operation.name in ("MEMOIZE", "BINPUT", "LONG_BINPUT"))
    except (OSError, ValueError, StopIteration, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        pass
    return None


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in the folder of a run."""
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    total += entry.stat(follow_symlinks=False).st_size
    except OSError:
        pass
    return total


def idle_note(step: int | None) -> str:
    """Where a run without a record and without a holder goes on, if it is asked for again."""
    return "no checkpoint: begins again" if step is None else f"checkpoint at step {step:,}"
