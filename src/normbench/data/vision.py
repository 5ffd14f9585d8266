"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100 from the files that torchvision downloads.

Files that exist are used. They are downloaded only if some are missing and `data.download` allows it.

Reference:  lecun1998 (MNIST) · xiao2017 (Fashion-MNIST) · krizhevsky2009 (CIFAR).
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from normbench.data import idx, published
from normbench.data.decoded import load_or_read
from normbench.data.download import DownloadFailed, fetch
from normbench.data.published import FILES, IDX_MD5, damaged
from normbench.data.raw import Images, Labels, Raw
from normbench.data.shape import KNOWN
from normbench.errors import InputError
from normbench.spec import DataSpec


def read(spec: DataSpec, cache: Path | None) -> Raw:
    """Both splits in their published order.

    Raises:
        InputError: files are missing and cannot be downloaded, or they are damaged.
    """
    root = published.root(spec.root)
    existing = _existing_idx if spec.name in IDX_MD5 else _existing_cifar
    raw = existing(spec.name, root, cache)
    if raw is None:
        _download(spec, root)
        raw = existing(spec.name, root, cache)
    if raw is None:
        raise _missing(spec.name, root, " after its download")
    return raw


def _existing_idx(name: str, root: Path, cache: Path | None) -> Raw | None:
    """The arrays of the idx files; None if some files are missing."""
    paths = published.present(name, root)
    if not paths:
        return None
    own = published.idx_state(name, root, cache)
    try:
        train, train_labels, test, test_labels = map(idx.read, paths)
    except (OSError, ValueError) as error:
        raise damaged(name, root, error) from None
    note = f"own files of this layout ({own}), not the published ones" if own else ""
    return Raw(_images(train), _labels(train_labels), _images(test), _labels(test_labels), note)


def _existing_cifar(name: str, root: Path, cache: Path | None) -> Raw | None:
    """The arrays of CIFAR's pickles; None unless all files are the published ones."""
    digests = published.digests(name, root, cache)
    if not digests:
        return None
    # The copy is found by content, so a copy of other files is never used.
    key = hashlib.sha256("\n".join(digests.values()).encode()).hexdigest()[:16]
    place = cache and cache / "data" / f"{name}-{key}"
    try:
        return load_or_read(place, KNOWN[name], lambda: _unpickle(name, root))
    except _NotPublished:
        return None


class _NotPublished(Exception):
    """torchvision's checksums do not fit the files."""


def _unpickle(name: str, root: Path) -> Raw:
    source = _torchvision(name)
    try:
        with warnings.catch_warnings():
            # Early NumPy 2.4 on CIFAR's pickles of 2009, which nobody can change (pytorch/vision#9340).
            warnings.filterwarnings("ignore", message=r"dtype\(\): align should be passed")
            train, test = source(root, train=True), source(root, train=False)
    except RuntimeError as error:
        if "not found" in str(error):
            raise _NotPublished from None
        raise damaged(name, root, error) from None
    except (OSError, ValueError, TypeError, AssertionError, LookupError, EOFError) as error:
        raise damaged(name, root, error) from None
    raw = Raw(_images(train.data), _labels(train.targets), _images(test.data), _labels(test.targets))
    known = KNOWN[name]
    for split, images, labels in (("train", raw.train_images, raw.train_labels),
                                  ("test", raw.test_images, raw.test_labels)):  # fmt: skip
        count = getattr(known, f"{split}_images")
        if images.shape != (count, known.channels, known.size, known.size) or len(labels) != count:
            raise damaged(name, root, f"the {split} split holds {images.shape} and {len(labels)} labels")
        if labels.min() < 0 or labels.max() >= known.classes:
            raise damaged(name, root, f"labels of the {split} split must be 0 … {known.classes - 1}")
    return raw


def _download(spec: DataSpec, root: Path) -> None:
    cause = _wrong_file(spec.name, root)
    if not spec.download:
        raise _missing(spec.name, root, f"{cause}, and data.download=false")
    try:
        fetch(_torchvision(spec.name), root, FILES[spec.name].archives)
    except DownloadFailed as error:
        raise _missing(spec.name, root, f"{cause}, and its download failed: {error}") from None


def _wrong_file(name: str, root: Path) -> str:
    """Which of CIFAR's files is not the published one, for an error message."""
    found = published.digests(name, root, None)
    if not found or name in IDX_MD5:
        return ""
    source = _torchvision(name)
    sums = dict([*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])])
    wrong = [file for file, digest in found.items() if sums.get(file) != digest]
    return f" ({', '.join(wrong)}: damaged, the checksum is not that of the published file)"


def _torchvision(name: str) -> Any:
    from torchvision import datasets

    return getattr(datasets, FILES[name].torchvision)


def _images(pixels: Any) -> Images:
    """(n, H, W) or (n, H, W, 3) → (n, C, H, W)."""
    array = np.asarray(pixels, dtype=np.uint8)
    return array[:, None] if array.ndim == 3 else np.ascontiguousarray(array.transpose(0, 3, 1, 2))


def _labels(targets: Any) -> Labels:
    return np.asarray(targets, dtype=np.int64)


def _missing(name: str, root: Path, cause: str) -> InputError:
    files = FILES[name]
    first, *others = files.names
    absent = [each for each in files.names if not (root / files.folder / each).is_file()]
    if absent and len(absent) < len(files.names):
        cause = f" ({', '.join(absent)}: not there){cause}"
    if packed := [archive for archive in files.archives if (root / archive).is_file()]:
        cause += f" ({packed[0]} is there: data.download=true unpacks it if it is whole)"
    return InputError(
        f"no whole copy of data={name} under data.root={root}{cause}; put {root / files.folder / first} "
        f"there and beside it {', '.join(others)}, or point data.root or NORMBENCH_DATA to the folder that "
        f"holds {files.folder}"
    )
