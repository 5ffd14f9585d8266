"""Devices and precisions."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch

from normbench.errors import InputError
from normbench.ranks import launched
from normbench.spec import EngineSpec

# NUMERICS: cuBLAS reads this before its first product and never again; deterministic runs need it
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

#: Precision → type of parameters, buffers and optimiser state.
STORAGE = {"fp64": torch.float64, **dict.fromkeys(("fp32", "tf32", "bf16", "fp16"), torch.float32)}
#: Precision → type of convolutions and matrix products, if it is another one.
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def cuda_count() -> int:
    """Number of GPUs that this process sees."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def find_device(name: str) -> torch.device:
    """The device of this machine that `engine.device` names. Under torchrun every rank has its own GPU.

    Raises:
        InputError: the machine has no such device, or it is neither a CPU nor a CUDA device; or there are
            fewer GPUs than ranks.
    """
    available = cuda_count()
    device = torch.device(("cuda" if available else "cpu") if name == "auto" else name)
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"engine.device={name} is not supported; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= available:
        found = f"{available} CUDA device(s)" if available else "no CUDA device"
        raise InputError(
            f"engine.device={name} is not here: this machine has {found}; use engine.device=auto or cpu"
        )
    together = launched()
    if device.type == "cpu" or together.count == 1:
        return device
    if device.index is not None or together.beside > available:
        raise InputError(
            f"{together.beside} ranks on this machine need a GPU each; got engine.device={name} and "
            f"{available} CUDA device(s); use engine.device=auto and --nproc-per-node={available}, or "
            "engine.device=cpu"
        )
    return torch.device("cuda", together.local)


def check(engine: EngineSpec) -> None:
    """Refuse engine settings that this machine does not support.

    Raises:
        InputError: the device is missing, a CPU is asked for a precision that only a GPU has or for replays
            of compiled steps, or `engine.compile` lacks a compiler.
    """
    device = find_device(engine.device)
    if engine.compile:
        _check_compiler(device)
    if device.type == "cuda":
        return
    if engine.precision in ("tf32", "fp16"):
        raise InputError(
            f"engine.precision={engine.precision} needs a CUDA device; use fp32, bf16 or fp64 on a CPU"
        )
    if engine.graphs is True and engine.compile:
        raise InputError("engine.graphs=true and engine.compile=true exclude each other on a CPU; use one")


def _check_compiler(device: torch.device) -> None:
    """Refuse `engine.compile` without the compilers that torch.compile calls on a device."""
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            raise InputError(
                "engine.compile=true on a GPU needs Triton, and there is none; install the package triton, "
                "or use engine.compile=false"
            )
        given, language, variable = os.environ.get("CC"), "C", "CC"
        compilers = [given] if given else ["gcc", "clang", "cc"]
    else:
        given, language, variable = os.environ.get("CXX"), "C++", "CXX"
        compilers = [given or ("clang++" if sys.platform == "darwin" else "g++")]
    if not any(map(shutil.which, compilers)):
        where = "GPU" if device.type == "cuda" else "CPU"
        raise InputError(
            f"engine.compile=true on a {where} needs a {language} compiler, and there is no "
            f"{' or '.join(compilers)}; install one, name yours in {variable}, or use engine.compile=false"
        )


def casting(engine: EngineSpec, device: torch.device) -> AbstractContextManager[object]:
    """The context of a forward pass: autocast for bf16 and fp16, else nothing."""
    if engine.precision in HALVES:
        # a cache would live longer than the captured step that fills it
        return torch.autocast(device.type, dtype=HALVES[engine.precision], cache_enabled=False)
    return nullcontext()


@contextmanager
def numerics(engine: EngineSpec, device: torch.device) -> Iterator[None]:
    """Enter the device of a run and set torch's numerics; restore both at the end.

    A CUDA graph captures the current device, so `cuda:1` must be entered. TF32 is on only for precision
    tf32. With `engine.deterministic` results have the same bits every time, and
    an operation that cannot give them raises an error.
    """
    cudnn = torch.backends.cudnn
    benchmark = cudnn.benchmark
    cudnn.benchmark = not engine.deterministic  # PERF: a run always has the same shapes
    try:
        with (
            torch.cuda.device(device) if device.type == "cuda" else nullcontext(),
            _tf32(allowed=engine.precision == "tf32"),
            _deterministic() if engine.deterministic else nullcontext(),
        ):
            yield
    finally:
        cudnn.benchmark = benchmark


@contextmanager
def _tf32(*, allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 in products and convolutions.

    Torch 2.9 has a second interface for this. It refuses to read the first one after a change by the second
    one, but not the other way round.
    """
    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    name, places, value = "allow_tf32", [matmul, cudnn], cast(object, allowed)
    if hasattr(matmul, "fp32_precision"):
        name, places, value = "fp32_precision", [matmul, cudnn.conv, cudnn.rnn], "tf32" if allowed else "ieee"
    before = [getattr(place, name) for place in places]
    try:
        for place in places:
            setattr(place, name, value)
        yield
    finally:
        for place, old in zip(places, before, strict=True):
            setattr(place, name, old)


@contextmanager
def _deterministic() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
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
