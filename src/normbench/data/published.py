"""The published files of data sets: their checksums, and what is refused or identified apart from them.

Files of MNIST and Fashion-MNIST that are whole but not the published ones are a user's own data: they are
read, and they get a fingerprint. CIFAR's files hold pickles, so only the published ones are ever opened.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from normbench.data import idx
from normbench.data.file_hashes import FileHashes, hashes_under
from normbench.data.shape import KNOWN
from normbench.errors import InputError


@dataclass(frozen=True)
class Files:
    """Where torchvision keeps a data set under the root."""

    torchvision: str  # name of the class
    folder: str
    names: tuple[str, ...]
    archives: tuple[str, ...]  # packed forms; used if they lie under the root already


#: MD5 of the unpacked files. MNIST: computed from the published files. Fashion-MNIST: as md5sum prints them
#: after unpacking the archives of zalandoresearch/fashion-mnist. torchvision has the sums of the packed files
#: only (MNIST.resources) and checks them after a download.
IDX_MD5 = {
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}
#: SHA-256 of scikit-learn's digits.csv, unpacked (scikit-learn 1.9.1; the data are those of 1998).
DIGITS_SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"


def _idx_files(torchvision: str, name: str) -> Files:
    names, folder = tuple(IDX_MD5[name]), f"{torchvision}/raw"
    return Files(torchvision, folder, names, tuple(f"{folder}/{each}.gz" for each in names))


_BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
FILES = {
    "mnist": _idx_files("MNIST", "mnist"),
    "fashion_mnist": _idx_files("FashionMNIST", "fashion_mnist"),
    "cifar10": Files("CIFAR10", "cifar-10-batches-py", _BATCHES, ("cifar-10-python.tar.gz",)),
    "cifar100": Files(
        "CIFAR100", "cifar-100-python", ("train", "test", "meta"), ("cifar-100-python.tar.gz",)
    ),
}


def root(given: str | None) -> Path:
    """The folder that `data.root` names."""
    return Path(given or "data").expanduser()


def hashes(name: str, under: Path, cache: Path | None) -> FileHashes:
    """The MD5 sums of the files of a data set under a root."""
    return hashes_under(under / FILES[name].folder, "md5", cache)


def present(name: str, under: Path) -> list[Path]:
    """The paths of all files of a data set; an empty list unless all of them exist."""
    paths = [under / FILES[name].folder / each for each in FILES[name].names]
    return paths if all(path.is_file() for path in paths) else []


def digests(name: str, under: Path, cache: Path | None) -> dict[str, str]:
    """MD5 of each file by name; empty unless all files exist.

    Raises:
        InputError: a file cannot be read.
    """
    known = hashes(name, under, cache)
    try:
        return {path.name: known.of(path.name, path) for path in present(name, under)}
    except OSError as error:
        raise damaged(name, under, f"{error.filename}: {error.strerror or error}") from None


def idx_state(name: str, under: Path, cache: Path | None) -> str | None:
    """None if the files are the published ones or are not all there; else a fingerprint of their contents.

    Raises:
        InputError: sizes, counts, labels or pixels show damage, or one file alone is not the published one.
    """
    found = digests(name, under, cache)
    other = [file for file, digest in found.items() if digest != IDX_MD5[name][file]]
    if not other:
        return None
    for each, sums in IDX_MD5.items():
        if mixed := [file for file in other if found[file] == sums[file]]:
            raise damaged(name, under, f"{', '.join(mixed)}: these are the files of data={each}")
    _check(name, under, tuple(found.items()))
    if len(other) == 1:
        raise damaged(name, under, f"{other[0]} is not the published file, but the other three are")
    listing = "\n".join(f"{file} {digest}" for file, digest in found.items())
    return hashlib.sha256(listing.encode()).hexdigest()[:16]


@lru_cache(maxsize=8)
def _check(name: str, under: Path, contents: tuple[tuple[str, str], ...]) -> None:
    """Check both splits; `contents` tells these files from earlier ones."""
    folder, shape = under / FILES[name].folder, KNOWN[name]
    counts = {"train": shape.train_images, "t10k": shape.test_images}
    try:
        for split, count in counts.items():
            idx.check_split(folder, split, (count, shape.size, shape.size), shape.classes)
    except (OSError, ValueError) as error:
        raise damaged(name, under, error) from None


def digits_state() -> str | None:
    """None if scikit-learn's digits are the published ones; else a fingerprint of its file."""
    package = find_spec("sklearn")
    for folder in (package.submodule_search_locations or ()) if package else ():
        file = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            stat = file.stat()
            return _digits_state(file, (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
    return None


@lru_cache(maxsize=4)
def _digits_state(file: Path, stamp: tuple[int, ...]) -> str | None:
    try:
        digest = hashlib.sha256(gzip.decompress(file.read_bytes())).hexdigest()
    except (OSError, EOFError, ValueError) as error:
        raise InputError(
            f"scikit-learn's digits in {file} are damaged ({error}); install scikit-learn again"
        ) from None
    return None if digest == DIGITS_SHA256 else digest[:16]


def damaged(name: str, under: Path, cause: object) -> InputError:
    """The error for files that are not what they should be."""
    reason = " ".join(str(cause).split()) or type(cause).__name__
    return InputError(
        f"the files of data={name} in {under / FILES[name].folder} are damaged ({reason}); remove them, and "
        "put whole ones there or allow data.download=true; give your own images as data=folder"
    )
