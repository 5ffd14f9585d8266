"""Random resized crops: which part of an image a training step shows (`data.resized_crop`).

    area   ~ U[least, 1] × width × height          aspect = exp(U[log ¾, log 4⁄3])
    width  = round(√(area · aspect))               height = round(√(area / aspect))

The corner is uniform over the places where the box fits. If it does not fit, another one is drawn, ten times
at most. Then the middle of the image is taken, with the nearest aspect. The box is resized to a square.

The numbers of an image depend on the lane's seed, the epoch and the position in its order, as those of flips.

Reference:  szegedy2015 — Going Deeper with Convolutions, CVPR 2015, §6; torchvision's RandomResizedCrop.
Deviations: random numbers are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from normbench import rng
from normbench.data.image import Crop

#: Boxes that are tried before the middle is taken.
TRIES = 10
ASPECTS = (3 / 4, 4 / 3)


class Draws(NamedTuple):
    """Which random numbers the crops of some images take.

    Attributes:
        least:     smallest share of the area.
        keys:      of the lanes of the images, (n,) int64, see `keys_of`.
        epoch:     of the images.
        positions: of the images in the orders of their lanes, (n,) int64.
    """

    least: float
    keys: NDArray[np.int64]
    epoch: int
    positions: NDArray[np.int64]

    def some(self, images: slice) -> Draws:
        """Those of some of the images."""
        return self._replace(keys=self.keys[images], positions=self.positions[images])

    def crops(self) -> list[Crop]:
        """The crop of each image."""
        keys, positions = torch.from_numpy(self.keys), torch.from_numpy(self.positions)
        numbers = rng.uniform(keys, self.epoch, positions, count=4 * TRIES, dtype=torch.float64)
        return [partial(box, self.least, row) for row in numbers.tolist()]


def keys_of(seeds: Sequence[int]) -> NDArray[np.int64]:
    """The keys of lanes, (K,) int64."""
    keys: NDArray[np.int64] = rng.lane_keys(seeds, "resized crop").numpy()
    return keys


def box(least: float, numbers: Sequence[float], width: int, height: int) -> tuple[int, int, int, int]:
    """Top, left, height and width of the crop of an image.

    Args:
        least:   smallest share of the area.
        numbers: 4 · TRIES uniform numbers in [0, 1): area, aspect, top and left of each try.
    """
    low, high = map(math.log, ASPECTS)
    for start in range(0, len(numbers), 4):
        share, slant, down, along = numbers[start : start + 4]
        area = (least + share * (1 - least)) * width * height
        aspect = math.exp(low + slant * (high - low))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(down * (height - h + 1)), int(along * (width - w + 1)), h, w
    w = min(width, round(height * ASPECTS[1]))
    h = min(height, round(width / ASPECTS[0]))
    return (height - h) // 2, (width - w) // 2, h, w
