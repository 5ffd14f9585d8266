"""Provenance of a record: versions, operating system and commit."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import normbench


@lru_cache(maxsize=1)
def environment() -> dict[str, str]:
    """Versions and operating system. The worker adds the device."""
    found = {
        "normbench": normbench.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    for package in ("torch", "torchvision", "timm", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def job() -> dict[str, str]:
    """The executor and the number of the job that this process belongs to; empty for local work."""
    executor = os.environ.get("SUBMITIT_EXECUTOR")
    if executor == "slurm":
        array, number = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
        return {"executor": executor, "job": f"{array}_{number}" if array else os.environ["SLURM_JOB_ID"]}
    return {"executor": "submitit_local"} if executor == "local" else {}


@lru_cache(maxsize=1)
def commit() -> str | None:
    """The commit of normbench's checkout, with `+` if files were changed; None for an installed package."""
    root = Path(normbench.__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *words],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=10,
        check=True,
    )
    return done.stdout.strip()
