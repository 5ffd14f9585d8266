"""Raw: what a source returns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


class Raw(NamedTuple):
    """Both whole splits. `train_size` and `test_size` take the first images of this order."""

    train_images: Images  # (n, C, size, size)
    train_labels: Labels  # (n,), 0 … classes−1
    test_images: Images
    test_labels: Labels
    note: str = ""  # what was decided about the images, for the record; "" if there was nothing to decide
