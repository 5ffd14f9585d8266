"""A data set that worker processes read: in shared memory, or in files if that is too small.

torch shares tensors in /dev/shm. A container gives it 64 MB by default, and a process that writes beyond is
killed without a message. So the room is compared with the need before anything is written.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from normbench import memory
from normbench.data import npy
from normbench.data.dataset import TENSORS, Dataset
from normbench.errors import RunFailure
from normbench.leftovers import draft_beside, remove_leftovers

#: Bytes of shared memory that stay free for others.
RESERVE = 8 << 20


def share(dataset: Dataset, cache: Path | None) -> tuple[Dataset, str]:
    """The same data set in a form that processes share, and a note if that is not shared memory; else "".

    Args:
        cache: folder for the files if shared memory is too small; this process removes them at its end.
            None, or a folder that cannot be written: the system's folder for temporary files.

    Raises:
        RunFailure: neither shared memory nor a file can hold the data.
    """
    tensors = _tensors(dataset)
    needed = sum(tensor.nbytes for tensor in tensors.values())
    free = memory.free_shared_bytes()
    if needed + RESERVE <= free:
        try:
            for tensor in tensors.values():
                tensor.share_memory_()
            return dataset, ""
        except (RuntimeError, OSError):  # too few file descriptors, or another process was faster
            pass
    note = (
        f"shared memory ({memory.SHARED}) has {memory.size(free)} free, the data need {memory.size(needed)}: "
        "worker processes read them from files"
    )
    return SharedFiles.of(dataset, cache), note


class SharedFiles(Dataset):
    """A data set whose tensors are memory-mapped files. Only their place is sent to other processes."""

    folder: Path

    @classmethod
    def of(cls, dataset: Dataset, cache: Path | None) -> SharedFiles:
        """Write the tensors to files, and map them.

        Raises:
            RunFailure: no folder can hold them.
        """
        temporary = Path(tempfile.gettempdir())
        failure = OSError()
        for parent in (temporary,) if cache is None else (cache / "data", temporary):
            folder = draft_beside(parent / "shared")
            remove_leftovers(parent)
            try:
                folder.mkdir(parents=True)
                atexit.register(_remove, folder, os.getpid())
                for name, tensor in _tensors(dataset).items():
                    np.save(folder / f"{name}.npy", tensor.numpy())
                return cls.mapped(folder, _others(dataset))
            except OSError as error:
                shutil.rmtree(folder, ignore_errors=True)
                failure = error
        raise RunFailure(
            f"neither shared memory ({memory.SHARED}) nor {temporary} can hold the data for worker processes "
            f"({failure.strerror or failure}); make room there, or set engine.processes=1"
        )

    @classmethod
    def mapped(cls, folder: Path, others: Mapping[str, Any]) -> SharedFiles:
        """Map the files of a folder. Writes do not reach them.

        Args:
            others: the fields of the data set that are no tensors.
        """
        missing = [name for name in TENSORS if name not in others]
        tensors: dict[str, Any] = {name: _mapped(folder / f"{name}.npy") for name in missing}
        made = cls(**others, **tensors)
        object.__setattr__(made, "folder", folder)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).mapped, (self.folder, _others(self))

    def to(self, device: torch.device | str) -> Dataset:
        """The same data set with its tensors on another device; an ordinary one."""
        plain = Dataset(**{each.name: getattr(self, each.name) for each in fields(Dataset)})
        return replace(plain, **{name: getattr(plain, name).to(device) for name in TENSORS})


def _tensors(dataset: Dataset) -> dict[str, torch.Tensor]:
    """The tensors of a data set by name. Streamed images are none: only their places are sent."""
    found = {name: getattr(dataset, name) for name in TENSORS}
    return {name: each for name, each in found.items() if isinstance(each, torch.Tensor)}


def _others(dataset: Dataset) -> dict[str, Any]:
    tensors = _tensors(dataset)
    return {each.name: getattr(dataset, each.name) for each in fields(Dataset) if each.name not in tensors}


def _mapped(file: Path) -> torch.Tensor:
    return torch.from_numpy(npy.load(file, mapped=file.stat().st_size >= 4096))  # an empty file has no map


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a process that was forked
        with suppress(OSError):
            shutil.rmtree(folder, ignore_errors=True)
