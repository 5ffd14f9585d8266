"""Leases: which process trains a run, so that several processes and machines can share a store.

A lease is the file `lease.json` in the folder of a run. Who creates it holds it: creation is exclusive on
local and on network file systems. The holder renews it, and removes it at the end. A lease whose holder has
ended is removed by whoever meets it, and is then free for all.

Nobody writes into the lease of another process. A holder renews its lease in place, in the open file that
holds its token. So a holder that was stopped, and whose lease was removed meanwhile, renews the removed file
and not that of its successor. Before it writes anything else it must ask `holds`.

When a lease has expired does not depend on the clocks of machines, see `Watch`.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from normbench.leftovers import draft_beside
from normbench.processes import Process, has_ended, this_process

#: Seconds between renewals, and seconds without one after which a lease has expired.
RENEW_S, EXPIRES_S = 10.0, 60.0
#: Seconds by which the clocks of two machines may differ.
SKEW_S = 600.0
#: Bytes of a lease. All have the same length, so that a renewal replaces the whole content.
_LENGTH = 640


@dataclass(frozen=True)
class Lease:
    """The content of a lease. Times are seconds since 1970 on the holder's clock, for people.

    Attributes:
        token: known to the holder alone; random.
        holder: the process.
        since: when it began with the run.
        renewed: when it last renewed the lease.
        first: the step from which it goes on.
        step:  finished steps.
        steps: length of the run; 0 if it is not known yet.
        stack: number of runs that train together.
    """

    token: str = field(default_factory=lambda: secrets.token_hex(16))
    holder: Process = field(default_factory=this_process)
    since: float = field(default_factory=time.time)
    renewed: float = field(default_factory=time.time)
    first: int = 0
    step: int = 0
    steps: int = 0
    stack: int = 1

    def content(self) -> bytes:
        """The bytes of the file."""
        tree = self.__dict__ | {"holder": self.holder._asdict()}
        return json.dumps(tree).encode().ljust(_LENGTH - 1) + b"\n"


class Seen(NamedTuple):
    """A lease file as it was read.

    Attributes:
        lease:    None if the content cannot be read, as between its creation and its first bytes.
        modified: time of its last change on the clock of the file system, in ns.
        inode:    number of the file.
    """

    lease: Lease | None
    modified: int
    inode: int


def read(file: Path) -> Seen | None:
    """Read a lease; None if there is none. It is opened first: network file systems are then up to date."""
    try:
        with file.open("rb") as stream:
            content, about = stream.read(_LENGTH), os.fstat(stream.fileno())
    except OSError:
        return None
    return Seen(_lease(content), about.st_mtime_ns, about.st_ino)


def _lease(content: bytes) -> Lease | None:
    try:
        tree: dict[str, Any] = json.loads(content)
        return Lease(**tree | {"holder": Process(**tree["holder"])})
    except (ValueError, TypeError, LookupError):
        return None


def take(file: Path, lease: Lease) -> bool:
    """Create a lease. False if another process has created it first.

    Raises:
        OSError: it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with file.open("xb") as stream:
            stream.write(lease.content())
    except FileExistsError:
        return False
    return True


def renew(file: Path, lease: Lease) -> bool:
    """Write a new state of a lease in place. False if the lease was removed or belongs to another process.

    Raises:
        OSError: the file system does not answer; the lease may still be there.
    """
    try:
        with file.open("r+b", buffering=0) as stream:
            if not _is_of(stream.read(_LENGTH), lease.token):
                return False
            stream.seek(0)
            stream.write(lease.content())
    except FileNotFoundError:
        return False
    return True


def holds(file: Path, token: str) -> bool:
    """Whether the lease is that of a token."""
    for attempt in range(3):
        if attempt:
            time.sleep(0.05)  # a process that removes expired leases may have moved it, and puts it back
        seen = read(file)
        if seen is not None:
            return seen.lease is not None and seen.lease.token == token
    return False


def release(file: Path, token: str) -> None:
    """Remove the lease of a token, if it is still there. Errors are ignored: it will expire."""
    seen = read(file)
    if seen is not None and seen.lease is not None and seen.lease.token == token:
        remove(file, seen)


def remove(file: Path, seen: Seen) -> bool:
    """Remove a lease that was seen. False if it has changed since; then it stays.

    It is first moved to a name of its own, which only one process can do. If a renewed or a new lease was
    moved, it is put back. If a third process has created one in this instant, the third one holds the run,
    and the holder of the moved lease finds that it has lost it before it writes anything.
    """
    if (now := read(file)) is None or now != seen:
        return False
    moved = draft_beside(file)
    try:
        file.rename(moved)
    except OSError:
        return False
    unchanged = read(moved) == seen
    if not unchanged:
        with suppress(OSError):
            os.link(moved, file)
    with suppress(OSError):
        moved.unlink()
    return unchanged


def _is_of(content: bytes, token: str) -> bool:
    lease = _lease(content)
    return lease is not None and lease.token == token


class Watch:
    """Judges whether leases have expired. Keep it as long as leases are watched.

    A lease has expired if
    - its holder was a process of this machine and has ended, or
    - its file has not changed while this process watched it for EXPIRES_S, on this process's own clock, or
    - its file is older than EXPIRES_S + SKEW_S beside a file that was written to the same folder just now.

    The clock of another machine has no part in the first two. In the third both times are those of the file
    server; where clients set them, the clocks may differ by SKEW_S.

    Args:
        clock: seconds, from any origin; it need not count while the machine sleeps.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: dict[Path, tuple[Seen, float]] = {}

    def has_expired(self, file: Path, seen: Seen) -> bool:
        """Whether a lease that was read just now has expired."""
        if seen.lease is not None and has_ended(seen.lease.holder):
            return True
        known, since = self._first.get(file, (None, 0.0))
        if known == seen:
            return self._clock() - since >= EXPIRES_S
        self._first[file] = seen, self._clock()
        age = _age_s(file, seen)
        return age is not None and age >= EXPIRES_S + SKEW_S

    def held(self, file: Path) -> Seen | None:
        """The lease of another process; None if it is free now. One that has expired is removed."""
        seen = read(file)
        return None if seen is None or (self.has_expired(file, seen) and remove(file, seen)) else seen


def _age_s(file: Path, seen: Seen) -> float | None:
    """Seconds since a lease was changed, on the clock of the file system; None if nothing can be written."""
    probe = draft_beside(file)
    try:
        probe.touch()
        now = probe.stat().st_mtime_ns
        probe.unlink()
    except OSError:
        return None
    return (now - seen.modified) / 1e9
