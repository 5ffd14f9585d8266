"""The default width of a stack: how many lanes it has if nothing was measured on this machine."""

from __future__ import annotations

from normbench.engine.device import find_device
from normbench.spec import RunSpec

#: On a GPU a further lane costs almost nothing. A stack that does not fit into memory is halved.
GPU_WIDTH = 64
#: The first width that is measured on a GPU. Narrower stacks take as long a step, and their memory says
#: little about that of a lane. Nobody has run it.
GPU_FIRST = 32
#: A step of at most so many images is small.
SMALL_STEP = 8
#: On one CPU core: the width for small steps and for larger ones (docs/decisions/001-lanes-on-a-cpu.md).
#: Every other model trains one lane at a time.
CPU_WIDTHS = {"mlp": (32, 16), "lenet300": (32, 16), "lenet5": (16, 8)}
CPU_WIDTHS |= {f"resnet{depth}": (8, 1) for depth in (20, 32, 44, 56, 110)}


def default_width(spec: RunSpec, gpu: bool | None = None) -> int:
    """The most lanes that a stack of such runs has by default.

    Args:
        gpu: whether a GPU trains it; None: see which device of this machine does.

    Raises:
        InputError: this machine does not have the run's device.
    """
    if find_device(spec.engine.device).type == "cuda" if gpu is None else gpu:
        return GPU_WIDTH
    small, large = CPU_WIDTHS.get(spec.model.name, (1, 1))
    return small if spec.total <= SMALL_STEP else large


def first_width(spec: RunSpec, most: int) -> int:
    """The width of such runs that is measured first, a power of two.

    Args:
        most: lanes that a stack can have.

    Raises:
        InputError: this machine does not have the run's device.
    """
    if find_device(spec.engine.device).type != "cuda":
        return 1
    return min(GPU_FIRST, 1 << max(1, most).bit_length() - 1)
