"""Memory: how much is free on a device, and what a stack's step takes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from normbench.engine.stack import Stack

#: Of the free memory, what stacks may take; the rest is for data, evaluation and estimates that are too low.
SHARE = 0.7


def free(device: torch.device) -> int:
    """Bytes that are free on a GPU, or to this process on a CPU."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return min(_available(), *_limits())


def affordable(per_lane: int, stacks: int, room: int) -> int:
    """Lanes that fit into `room` bytes, where so many stacks train at once; at least one."""
    return max(1, int(SHARE * room / stacks / per_lane))


def taken(stack: Stack) -> int:
    """Bytes that a stack on a CPU takes in training: take its step 0 and see what it saves for the backward
    pass. Weights, gradients and optimiser state are counted as if for Adam.
    """
    saved: dict[int, int] = {}

    def look(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(look, lambda tensor: tensor):
        stack.step(0)
    return sum(saved.values()) + 4 * sum(p.nbytes for p in stack.network.parameters())


def _available() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        kibibytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable"))
        return 1024 * int(kibibytes)
    except (OSError, StopIteration):  # not Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _limits() -> Iterator[int]:
    """What the control groups that this process is in may have in all: containers and batch systems."""
    yield 2**63
    try:
        own = Path("/proc/self/cgroup").read_text().strip().rpartition("::")[2].strip("/")
    except OSError:
        return
    group = Path("/sys/fs/cgroup") / own
    for folder in (group, *group.parents):
        try:
            yield int((folder / "memory.max").read_text())
        except (OSError, ValueError):  # no such control, or "max"
            continue
