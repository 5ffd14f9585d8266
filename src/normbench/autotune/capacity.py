"""What this machine has for a sweep: processes, threads, and how many lanes a stack has where nobody has
measured what pays, a table by model and images per step.
"""

from __future__ import annotations

import os

from normbench.engine.device import find_device
from normbench.spec import EngineSpec, RunSpec

#: On a GPU a lane costs almost nothing; a stack that does not fit into memory is halved.
GPU_LANES = 64
#: On one CPU core, up to and above SMALL images per step (docs/decisions/001-lanes-on-a-cpu.md); any other
#: model trains alone.
SMALL = 8
CPU_LANES = {"mlp": (32, 16), "lenet300": (32, 16), "lenet5": (16, 8)}
CPU_LANES |= {f"resnet{depth}": (8, 1) for depth in (20, 32, 44, 56, 110)}


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes(engine: EngineSpec) -> int:
    """Worker processes for a sweep: one on a GPU, on a CPU one per core unless told otherwise."""
    if find_device(engine.device).type == "cuda":
        return 1
    return cores() if engine.processes == "auto" else engine.processes


def threads(spec: RunSpec) -> int:
    """Threads for a stack alone on the machine: one where a step is too small to be shared."""
    return 1 if spec.model.name in CPU_LANES and spec.total <= 128 else cores()


def capacity(spec: RunSpec) -> int:
    """The most lanes of a stack of such runs."""
    if find_device(spec.engine.device).type == "cuda":
        return GPU_LANES
    small, large = CPU_LANES.get(spec.model.name, (1, 1))
    return small if spec.total <= SMALL else large
