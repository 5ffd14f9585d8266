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
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    ink, labels = load_digits(return_X_y=True)
    if ink.shape != (1797, 64) or ink.min() < 0 or ink.max() > 16 or not set(labels) <= set(range(10)):
        raise InputError("scikit-learn's digits are damaged; install scikit-learn again")
    train, test, train_labels, test_labels = train_test_split(
        ink, labels, test_size=500, random_state=0, stratify=labels
    )
    return Raw(_pixels(train), _whole(train_labels), _pixels(test), _whole(test_labels))


def _digest(raw: Raw) -> str:
    digest = hashlib.sha256()
    for array in (raw.train_images, raw.train_labels, raw.test_images, raw.test_labels):
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def _pixels(ink: NDArray[np.float64]) -> Images:
    return np.rint(ink * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)


def _whole(labels: NDArray[np.integer]) -> Labels:
    return labels.astype(np.int64)
