"""Several GPUs of one machine: which of them train the stacks of a sweep side by side."""

from __future__ import annotations

import os

from normbench.engine.device import cuda_count
from normbench.errors import InputError
from normbench.ranks import launched
from normbench.spec import EngineSpec


def side_by_side(engine: EngineSpec) -> tuple[str, ...]:
    """The GPUs that `engine.devices` asks for, each as the CUDA_VISIBLE_DEVICES of its worker process.

    Empty if `engine.device` trains all stacks: for `one`, and for `all` on a machine without a GPU.

    Raises:
        InputError: a GPU does not exist or is named twice, or `engine.device` or torchrun forbid a choice.
    """
    if engine.devices == "one" or (engine.devices == "all" and engine.device == "cpu"):
        return ()
    if launched().count > 1:
        raise InputError("engine.devices=one is needed under torchrun, which gives each rank its own GPU")
    asked = "all" if engine.devices == "all" else f"[{','.join(map(str, engine.devices))}]"
    if engine.device not in ("auto", "cuda"):
        raise InputError(
            f"engine.devices={asked} chooses the GPUs, so engine.device must be auto or cuda; "
            f"got {engine.device}"
        )
    count = cuda_count()
    numbers = tuple(range(count)) if engine.devices == "all" else engine.devices
    if len(set(numbers)) < len(numbers):
        raise InputError(f"engine.devices must name each GPU once; got {asked}")
    if numbers and max(numbers) >= count:
        last = f"0 to {count - 1}" if count > 1 else "0" if count else "none"
        raise InputError(
            f"engine.devices={asked} is not here: the GPUs of this machine are {last}; use engine.devices=all"
        )
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return tuple(visible[n] if len(visible) >= count and visible[0] else str(n) for n in numbers)
