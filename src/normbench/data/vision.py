"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100 from the files that torchvision reads.

Files that are there are used; only where there are none, and `data.download` allows it, are they fetched.

Reference:  lecun1998 (MNIST) · xiao2017 (Fashion-MNIST) · krizhevsky2009 (CIFAR).
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from normbench.data.decoded import load_or_read
from normbench.data.download import DownloadFailed, fetch
from normbench.data.raw import Images, Labels, Raw
from normbench.data.shapes import KNOWN
from normbench.errors import InputError
from normbench.spec import DataSpec


@dataclass(frozen=True)
class _Files:
    """A torchvision data set and where it keeps its files under the root."""

    torchvision: str
    folder: str
    names: tuple[str, ...]
    archives: tuple[str, ...]  # packed forms, used where they lie under the root already


def _idx(torchvision: str) -> _Files:
    parts = ("images-idx3-ubyte", "labels-idx1-ubyte")
    names = tuple(f"{split}-{part}" for split in ("train", "t10k") for part in parts)
    folder = f"{torchvision}/raw"
    return _Files(torchvision, folder, names, tuple(f"{folder}/{name}.gz" for name in names))


_BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
_FILES = {
    "mnist": _idx("MNIST"),
    "fashion_mnist": _idx("FashionMNIST"),
    "cifar10": _Files("CIFAR10", "cifar-10-batches-py", _BATCHES, ("cifar-10-python.tar.gz",)),
    "cifar100": _Files(
        "CIFAR100", "cifar-100-python", ("train", "test", "meta"), ("cifar-100-python.tar.gz",)
    ),
}


def read(spec: DataSpec, cache: Path | None) -> Raw:
    """Both splits in their published order, of files as they stood when they were first read.

    Raises:
        InputError: the files are absent and cannot be fetched, or are not what they should be.
    """
    root = Path(spec.root or "data").expanduser()
    return load_or_read(_place(spec.name, root, cache), KNOWN[spec.name], lambda: _read(spec, root))


def _place(name: str, root: Path, cache: Path | None) -> Path | None:
    """Where the arrays of these very files are kept, None where there are no files."""
    files = [root / _FILES[name].folder / each for each in _FILES[name].names]
    if cache is None or not all(file.is_file() for file in files):
        return None
    states = [f"{file.absolute()}\0{file.stat().st_size}\0{file.stat().st_mtime_ns}" for file in files]
    return cache / "data" / f"{name}-{hashlib.sha256(chr(10).join(states).encode()).hexdigest()[:16]}"


def _read(spec: DataSpec, root: Path) -> Raw:
    from torchvision import datasets

    source = getattr(datasets, _FILES[spec.name].torchvision)
    with warnings.catch_warnings():
        # Early NumPy 2.4 on CIFAR's pickles of 2009, which nobody can change (pytorch/vision#9340).
        warnings.filterwarnings("ignore", message=r"dtype\(\): align should be passed")
        return _existing(spec.name, source, root) or _fetched(spec, source, root)


def _fetched(spec: DataSpec, source: Any, root: Path) -> Raw:
    if not spec.download:
        raise _missing(spec.name, root, ", and data.download=false")
    try:
        fetch(source, root, _FILES[spec.name].archives)
    except DownloadFailed as error:
        raise _missing(spec.name, root, f", and its download failed: {error}") from None
    raw = _existing(spec.name, source, root)
    if raw is None:
        raise _missing(spec.name, root, " after its download")
    return raw


def _existing(name: str, source: Any, root: Path) -> Raw | None:
    """What lies under the root, None where that is nothing that torchvision takes for the data set."""
    try:
        train, test = source(root, train=True), source(root, train=False)
    except RuntimeError as error:
        if "not found" in str(error):
            return None
        raise _damaged(name, root, error) from None
    except (OSError, ValueError, TypeError, AssertionError, LookupError, EOFError) as error:
        raise _damaged(name, root, error) from None
    raw = Raw(_images(train.data), _labels(train.targets), _images(test.data), _labels(test.targets))
    known = KNOWN[name]
    for split, (images, labels) in {"train": raw[:2], "test": raw[2:]}.items():
        count = getattr(known, f"{split}_images")
        if images.shape != (count, known.channels, known.size, known.size) or len(labels) != count:
            raise _damaged(name, root, f"the {split} split holds {images.shape} and {len(labels)} labels")
    return raw


def _images(pixels: Any) -> Images:
    """(n, H, W) or (n, H, W, 3), tensor or array → (n, C, H, W)."""
    array = np.asarray(pixels, dtype=np.uint8)
    return array[:, None] if array.ndim == 3 else np.ascontiguousarray(array.transpose(0, 3, 1, 2))


def _labels(targets: Any) -> Labels:
    return np.asarray(targets, dtype=np.int64)


def _missing(name: str, root: Path, cause: str) -> InputError:
    files = _FILES[name]
    first, *others = files.names
    return InputError(
        f"no whole copy of data={name} under data.root={root}{cause}; put {root / files.folder / first} "
        f"there and beside it {', '.join(others)}, or point data.root or NORMBENCH_DATA to the folder that "
        f"holds {files.folder}"
    )


def _damaged(name: str, root: Path, cause: object) -> InputError:
    reason = " ".join(str(cause).split()) or type(cause).__name__
    return InputError(
        f"the files of data={name} in {root / _FILES[name].folder} are damaged ({reason}); remove them, and "
        "put whole ones there or allow data.download=true"
    )
