"""Devices and precisions."""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from normbench.errors import InputError
from normbench.spec import EngineSpec

#: Type of parameters, buffers and optimiser state.
STORAGE = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.float32}


def resolve(name: str) -> torch.device:
    """The device that `engine.device` names on this machine.

    Raises:
        InputError: there is no such device here.
    """
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if available else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= available:
        here = f"{available} CUDA device(s)" if available else "no CUDA device"
        raise InputError(
            f"engine.device={name} is not here: this machine has {here}; use engine.device=auto or cpu"
        )
    return device


def casting(engine: EngineSpec, device: torch.device) -> AbstractContextManager[object]:
    """The context of a forward pass: bf16 through autocast, everything else as stored."""
    if engine.precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def layout(device: torch.device) -> torch.memory_format:
    """Memory format of images and filters. PERF: on a CPU it halves grouped convolutions (docs/LOG.md)."""
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


def describe(device: torch.device) -> str:
    """A name for records: the GPU's or the processor's."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
