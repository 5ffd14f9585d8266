"""Memory that is free on a device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

#: Bytes that count as free if the operating system says nothing, as Windows.
UNKNOWN_BYTES = 4 * 2**30


def free_bytes(device: torch.device) -> int:
    """Bytes that are free on a GPU, or that this process may still take on a CPU."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return min(_available(), *_limits())


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
    """Memory limits of the control groups that hold this process, as containers and batch systems set."""
    yield 2**63
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
