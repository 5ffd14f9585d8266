"""Memory that this process may still take on this machine, and memory that processes can share. No torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

#: Bytes that count as free if the operating system says nothing, as Windows.
UNKNOWN_BYTES = 4 * 2**30
#: Where Linux keeps memory that processes share. Containers give it 64 MB by default.
SHARED = "/dev/shm"


def free_bytes() -> int:
    """Bytes that the operating system, its control groups and `ulimit -v` leave to this process."""
    return max(0, min(_available(), *_limits()))


def free_shared_bytes() -> int:
    """Bytes that are free for memory that processes share; 0 if there is no place for it."""
    if not sys.platform.startswith("linux"):
        return 2**63
    try:
        found = os.statvfs(SHARED)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize


def size(count: float) -> str:
    """Bytes as text.

    >>> size(115_008), size(64e6), size(2.5e9)
    ('115 kB', '64 MB', '2.5 GB')
    """
    if count >= 1e9:
        return f"{count / 1e9:,.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _available() -> int:
    """Bytes that the operating system can give to programs; all of its memory if it does not say
    how many are free; UNKNOWN_BYTES if it says nothing.
    """
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        kibibytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable"))
        return 1024 * int(kibibytes)
    except (OSError, StopIteration):  # not Linux
        pass
    if not hasattr(os, "sysconf"):
        return UNKNOWN_BYTES
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _limits() -> Iterator[int]:
    """Limits of the control groups that hold this process, as containers and batch systems set, and of the
    address space (`ulimit -v`).
    """
    yield 2**63
    yield from _address_space()
    try:
        own = Path("/proc/self/cgroup").read_text(encoding="utf-8").strip().rpartition("::")[2].strip("/")
    except OSError:
        return
    group = Path("/sys/fs/cgroup") / own
    for folder in (group, *group.parents):
        try:
            yield int((folder / "memory.max").read_text(encoding="utf-8"))
        except (OSError, ValueError):  # no such control, or "max"
            continue


def _address_space() -> Iterator[int]:
    try:
        import resource
    except ImportError:  # Windows
        return
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY:
        return
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    except (OSError, ValueError, IndexError):
        pages = 0
    yield most - pages * resource.getpagesize()
