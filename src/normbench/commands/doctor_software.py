"""Checks of software: Python, torch, compilers, trackers, the commands of a cluster."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version

from normbench.commands.doctor_check import FAIL, OK, WARN, check
from normbench.commands.doctor_packages import extras, packages

#: Newest version of Python that normbench is meant for.
_NEWEST_PYTHON = (3, 14)


@check("python")
def python() -> tuple[str, ...]:
    found = f"{platform.python_version()}, {sys.executable}"
    if sys.version_info[:2] > _NEWEST_PYTHON:
        newest = ".".join(map(str, _NEWEST_PYTHON))
        return WARN, found, f"normbench is meant for up to {newest}; if something breaks, use that"
    return OK, found


@check("torch")
def torch() -> tuple[str, ...]:
    try:
        import torch
    except (ImportError, OSError) as error:
        return FAIL, f"cannot be imported: {error}", "pip install torch torchvision"
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    if torch.version.hip:
        build = f"ROCm {torch.version.hip}"
    return OK, f"{torch.__version__}, {build}"


@check("gpu")
def gpu() -> tuple[str, ...]:
    import torch

    from normbench.phrases import sized

    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        return OK, ", ".join(f"{card.name}, {sized(card.total_memory)}" for card in cards)
    if shutil.which("nvidia-smi") is None:
        return OK, "none; runs train on the CPU"
    if torch.version.cuda is None:
        return (
            WARN,
            "there is an NVIDIA driver, but torch is a CPU build",
            "install a CUDA build: pytorch.org",
        )
    return WARN, "there is an NVIDIA driver, but torch finds no GPU", "see nvidia-smi, CUDA_VISIBLE_DEVICES"


@check("compiler")
def compiler() -> tuple[str, ...]:
    """For engine.compile=true alone."""
    import torch

    from normbench.engine.device import check as check_engine
    from normbench.errors import InputError
    from normbench.groups import EngineSpec

    fields = EngineSpec.model_fields
    asked = {name: field.default for name, field in fields.items() if not field.is_required()}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    asked |= {"device": device, "compile": True, "precision": "fp32", "graphs": "auto"}
    try:
        check_engine(EngineSpec.model_construct(**asked))
    except InputError as error:
        return WARN, "none: engine.compile=true is refused", str(error)
    return OK, "there is one, for engine.compile=true"


@check("wandb")
def wandb() -> tuple[str, ...]:
    import os

    from normbench.tracking.wandb_setup import DISABLED, has_api_key, mode_of_environment

    try:
        found = f"{version('wandb')}"
    except PackageNotFoundError:
        return WARN, "not installed; runs are not tracked", "pip install wandb, or tracking=csv"
    mode = mode_of_environment()
    if mode == DISABLED:
        return OK, f"{found}, disabled by WANDB_MODE"
    if not has_api_key(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")):
        return (
            WARN,
            f"{found}, no API key: it works offline",
            "wandb login; or tracking=none, csv, tensorboard",
        )
    return OK, f"{found}, with an API key{f', {mode} by WANDB_MODE' if mode else ''}"


@check("cluster")
def cluster() -> tuple[str, ...]:
    tools = [name for name in ("sbatch", "srun", "squeue") if shutil.which(name)]
    submitit = importlib.util.find_spec("submitit") is not None
    if not tools:
        return OK, "no SLURM commands"
    return OK, f"SLURM: {', '.join(tools)}; submitit is {'' if submitit else 'not '}installed"


SOFTWARE = (python, packages, torch, gpu, compiler, extras, wandb, cluster)
