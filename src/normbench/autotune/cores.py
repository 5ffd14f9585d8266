"""How many CPU cores, worker processes and threads a sweep uses on this machine."""

from __future__ import annotations

import os

from normbench.autotune.default_widths import CPU_WIDTHS
from normbench.engine.device import find_device
from normbench.engine.devices import side_by_side
from normbench.ranks import launched
from normbench.spec import EngineSpec, RunSpec

#: A step of at most so many images of a small model runs in one thread: it is too short to be shared.
ONE_THREAD_IMAGES = 128


def cores() -> int:
    """CPU cores that this process may use; under torchrun, its share of them."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, usable // launched().beside)


def process_count(engine: EngineSpec) -> int:
    """Worker processes of a sweep: one per GPU; on a CPU `engine.processes`, where auto means one per core.
    Under torchrun, one: its ranks train one stack after the other.

    Raises:
        InputError: this machine does not have the engine's devices.
    """
    if gpus := side_by_side(engine):
        return len(gpus)
    if find_device(engine.device).type == "cuda" or launched().count > 1:
        return 1
    return cores() if engine.processes == "auto" else engine.processes


def thread_count(spec: RunSpec) -> int:
    """Threads of a stack that trains alone on the machine."""
    return 1 if spec.model.name in CPU_WIDTHS and spec.total <= ONE_THREAD_IMAGES else cores()
