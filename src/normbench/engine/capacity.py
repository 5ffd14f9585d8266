"""How many lanes a stack may have on a device: what pays, by model and images per step."""

from __future__ import annotations

from normbench.engine.device import resolve
from normbench.spec import RunSpec

#: On a GPU a lane costs almost nothing; a stack that does not fit into memory is halved.
GPU_LANES = 64
#: On one CPU core, up to and above SMALL images per step (docs/decisions/001-lanes-on-a-cpu.md); any other
#: model trains alone.
SMALL = 8
CPU_LANES = {"mlp": (32, 16), "lenet300": (32, 16), "lenet5": (16, 8)}
CPU_LANES |= {f"resnet{depth}": (8, 1) for depth in (20, 32, 44, 56, 110)}


def threads(spec: RunSpec, cores: int) -> int:
    """Threads for a stack alone on the machine: one where a step is too small to be shared."""
    return 1 if spec.model.name in CPU_LANES and spec.total <= 128 else cores


def capacity(spec: RunSpec) -> int:
    """The most lanes of a stack of such runs: `engine.lanes`, or what pays on the run's device."""
    if spec.engine.lanes != "auto":
        return spec.engine.lanes
    if resolve(spec.engine.device).type == "cuda":
        return GPU_LANES
    small, large = CPU_LANES.get(spec.model.name, (1, 1))
    return small if spec.total <= SMALL else large
