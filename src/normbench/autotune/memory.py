"""Memory: how much a device has free, how much a stack takes, and how many lanes fit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

from normbench.engine.stack import Stack
from normbench.instruments import SavedBytes

#: Stacks may take this share of the free memory. The rest is for data, evaluation and low estimates.
SHARE = 0.7


def free_bytes(device: torch.device) -> int:
    """Bytes that are free on a GPU, or that this process may still take on a CPU."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return min(_available(), *_limits())


def lanes_that_fit(lane_bytes: int, stacks: int, free: int) -> int:
    """The most lanes per stack that fit into memory; at least 1.

    Args:
        lane_bytes: bytes that one lane takes.
        stacks:     stacks that train at the same time.
        free:       bytes that are free.
    """
    return max(1, int(SHARE * free / stacks / lane_bytes))


def stack_bytes(stack: Stack) -> int:
    """Bytes that a stack on a CPU takes in training; takes its step 0.

    It counts what the step saves for the backward pass. It counts the parameters four times: weights,
    gradients and the two states of Adam.
    """
    with SavedBytes() as saved:
        stack.step(0)
    return saved.total + 4 * sum(p.nbytes for p in stack.network.parameters())


def _available() -> int:
    """Bytes that the operating system can give to programs; all of its memory if it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        kibibytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable"))
        return 1024 * int(kibibytes)
    except (OSError, StopIteration):  # not Linux
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
