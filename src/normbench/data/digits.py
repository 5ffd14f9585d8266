"""scikit-learn's handwritten digits: 1,797 real images of 8×8. The package contains them; no download.

The split is always the same: 1,297 training and 500 test images, stratified by class, shuffled with random
state 0. Ink levels 0 … 16 become 0 … 255 by round(255 v / 16).

Reference:  Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from normbench.data import published
from normbench.data.decoded import load_or_read
from normbench.data.raw import Images, Labels, Raw
from normbench.data.shape import KNOWN
from normbench.errors import InputError
from normbench.spec import DataSpec

#: First 16 digits of the SHA-256 of the four arrays. Another split would be other runs.
SPLIT_SHA256 = "c1c5379cabca3df6"
#: Images of the test split.
TEST = 500


def read(spec: DataSpec, cache: Path | None) -> Raw:
    """The fixed split. `spec` does not change it.

    Raises:
        InputError: the installed scikit-learn holds damaged images, or splits the published ones otherwise.
    """
    own = published.digits_state()
    place = cache and cache / "data" / f"digits-{version('scikit-learn')}-{own or SPLIT_SHA256}"
    raw = load_or_read(place, KNOWN["digits"], _read)
    if own is None and (found := _digest(raw)) != SPLIT_SHA256:
        raise InputError(
            f"the split of data=digits must have the hash {SPLIT_SHA256}; scikit-learn "
            f"{version('scikit-learn')} gives {found}; install another version of scikit-learn"
        )
    return raw


def _read() -> Raw:
    ink, labels = _table()
    if ink.shape != (1797, 64) or ink.min() < 0 or ink.max() > 16 or not set(labels) <= set(range(10)):
        raise InputError("scikit-learn's digits are damaged; install scikit-learn again")
    train, test = _split(labels)
    return Raw(_pixels(ink[train]), labels[train], _pixels(ink[test]), labels[test])


def _table() -> tuple[NDArray[np.float64], Labels]:
    """Ink, (images, 64), and labels of scikit-learn's file. PERF: importing scikit-learn takes a second."""
    file = published.digits_file()
    if file is None:
        raise InputError("data=digits reads a file of scikit-learn, which is missing; install scikit-learn")
    try:
        rows = np.loadtxt(file, delimiter=",", ndmin=2)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot read {file} ({error}); install scikit-learn again") from None
    return rows[:, :-1], rows[:, -1].astype(np.int64)


def _split(labels: Labels) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """The images of each split, as `train_test_split(test_size=TEST, stratify=labels, random_state=0)`."""
    draw = np.random.RandomState(0)  # scikit-learn's generator
    counts = np.bincount(labels)
    of_train = _shares(counts, len(labels) - TEST, draw)
    of_test = _shares(counts - of_train, TEST, draw)
    train: list[int] = []
    test: list[int] = []
    for digit, (first, second) in enumerate(zip(of_train, of_test, strict=True)):
        images = np.flatnonzero(labels == digit)[draw.permutation(counts[digit])]
        train.extend(images[:first])
        test.extend(images[first : first + second])
    return draw.permutation(train), draw.permutation(test)


def _shares(counts: NDArray[np.integer], total: int, draw: np.random.RandomState) -> NDArray[np.integer]:
    """Images of each class among `total`, in proportion to `counts`. Largest remainders are rounded up."""
    exact: NDArray[np.float64] = counts / counts.sum() * total
    whole: NDArray[np.float64] = np.floor(exact)
    missing = int(total - whole.sum())
    for remainder in np.unique(exact - whole)[::-1]:
        if missing == 0:
            break
        (alike,) = np.where(exact - np.floor(exact) == remainder)
        chosen = draw.choice(alike, size=min(len(alike), missing), replace=False)
        whole[chosen] += 1
        missing -= len(chosen)
    return whole.astype(np.int64)


def _digest(raw: Raw) -> str:
    digest = hashlib.sha256()
    for array in (raw.train_images, raw.train_labels, raw.test_images, raw.test_labels):
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def _pixels(ink: NDArray[np.float64]) -> Images:
    return np.rint(ink * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
