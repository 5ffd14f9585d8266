"""scikit-learn's handwritten digits: 1,797 real images of 8×8. The package contains them; no download.

The split is always the same: 1,297 training and 500 test images, stratified by class, shuffled with random
state 0. Ink levels 0 … 16 become 0 … 255 by round(255 v / 16).

Reference:  Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from normbench.data.decoded import load_or_read
from normbench.data.raw import Images, Labels, Raw
from normbench.data.shapes import KNOWN
from normbench.spec import DataSpec


def read(spec: DataSpec, cache: Path | None) -> Raw:
    """The fixed split. `spec` does not change it."""
    place = None if cache is None else cache / "data" / f"digits-{version('scikit-learn')}"
    return load_or_read(place, KNOWN["digits"], _read)


def _read() -> Raw:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    ink, labels = load_digits(return_X_y=True)
    train, test, train_labels, test_labels = train_test_split(
        ink, labels, test_size=500, random_state=0, stratify=labels
    )
    return Raw(_pixels(train), _whole(train_labels), _pixels(test), _whole(test_labels))


def _pixels(ink: NDArray[np.float64]) -> Images:
    return np.rint(ink * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)


def _whole(labels: NDArray[np.integer]) -> Labels:
    return labels.astype(np.int64)
