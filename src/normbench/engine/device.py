"""Devices and precisions."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch

from normbench.errors import InputError
from normbench.spec import EngineSpec

#: Precision → type of parameters, buffers and optimiser state.
STORAGE = {"fp64": torch.float64, **dict.fromkeys(("fp32", "tf32", "bf16", "fp16"), torch.float32)}
#: Precision → type of convolutions and matrix products, if it is another one.
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def find_device(name: str) -> torch.device:
    """The device of this machine that `engine.device` names.

    Raises:
        InputError: the machine has no such device.
    """
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if available else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= available:
        found = f"{available} CUDA device(s)" if available else "no CUDA device"
        raise InputError(
            f"engine.device={name} is not here: this machine has {found}; use engine.device=auto or cpu"
        )
    return device


def check(engine: EngineSpec) -> None:
    """Refuse engine settings that this machine does not support.

    Raises:
        InputError: the device is missing, a CPU is asked for a precision or for graphs that only a GPU has,
            or a CPU has no compiler.
    """
    device = find_device(engine.device)
    if device.type == "cuda":
        return
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if engine.compile and shutil.which(compiler) is None:
        raise InputError(
            f"engine.compile=true on a CPU needs a C++ compiler, and there is no {compiler}; install one, "
            "name yours in CXX, or use engine.compile=false"
        )
    if engine.precision in ("tf32", "fp16"):
        raise InputError(
            f"engine.precision={engine.precision} needs a CUDA device; use fp32, bf16 or fp64 on a CPU"
        )
    if engine.graphs is True:
        raise InputError("engine.graphs=true needs a CUDA device; use auto or false")


def casting(engine: EngineSpec, device: torch.device) -> AbstractContextManager[object]:
    """The context of a forward pass: autocast for bf16 and fp16, else nothing."""
    if engine.precision in HALVES:
        # a cache would live longer than the captured step that fills it
        return torch.autocast(device.type, dtype=HALVES[engine.precision], cache_enabled=False)
    return nullcontext()


@contextmanager
def numerics(engine: EngineSpec) -> Iterator[None]:
    """Set torch's numerics for a run; restore them at the end.

    TF32 is on only for precision tf32. With `engine.deterministic` results have the same bits every time, and
    an operation that cannot give them raises an error.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark
    cudnn.allow_tf32 = matmul.allow_tf32 = engine.precision == "tf32"
    cudnn.benchmark = not engine.deterministic  # PERF: a run always has the same shapes
    try:
        with _deterministic() if engine.deterministic else nullcontext():
            yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark = before


@contextmanager
def _deterministic() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS needs it
    # PERF: this imports torch's compiler, which takes 2 s, so other runs never call it
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def default_memory_format(device: torch.device) -> torch.memory_format:
    """The memory format of images and filters. PERF: on a CPU channels_last halves the time (docs/LOG.md)."""
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


def device_name(device: torch.device) -> str:
    """The name of the GPU or of the processor, for records."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
