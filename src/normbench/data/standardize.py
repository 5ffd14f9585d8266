"""Standardization of images: (pixel − shift) / scale, as `data.standardize` says.

    channel  mean and standard deviation of the channel
    pixel    mean and standard deviation of the channel and position
    minmax   the smallest level and the range of all channels together: training pixels fill [0, 1]
    none     0 and 255: pixels ÷ 255
    image    mean and standard deviation of the image itself, over all its channels and positions

The statistics of the first three are those of the training split, fitted to the model and not augmented; the
validation split is not a part of it. A deviation or range of 0 counts as 1, with white as 1. The same numbers
serve training, validation and test images.

Random crops pad with black pixels (level 0) before anything is standardized. So padding is the value that a
black pixel has at its position. `image` takes the statistics of the image as the network gets it: after
cropping, with the padding that the crop contains.
"""

from __future__ import annotations

import torch
from torch import Tensor

from normbench.data.dataset import Dataset


class Standardize:
    """Map pixels (N, K·C, H, W) uint8 to (pixel − shift) / scale.

    Args:
        dataset:       says how, and has the statistics; the result is on its device.
        lanes:         K.
        channels_last: memory format of the result.
        dtype:         of the result; float64 is computed in float64, all others in float32.
    """

    def __init__(self, dataset: Dataset, lanes: int, channels_last: bool, dtype: torch.dtype) -> None:
        self._working = torch.float64 if dtype == torch.float64 else torch.float32
        self._dtype, self._lanes, self._channels = dtype, lanes, dataset.channels
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        sides = (1, 1) if len(dataset.mean) == dataset.channels else (dataset.size, dataset.size)
        self._of_data = dataset.standardize != "image" and tuple(
            torch.tensor(moment, dtype=torch.float64).mul(255).repeat(lanes).view(-1, *sides)
            .to(dataset.train_images.device, self._working)
            for moment in (dataset.mean, dataset.std)
        )  # fmt: skip

    def __call__(self, pixels: Tensor) -> Tensor:
        x = pixels.to(self._working, memory_format=self._format)
        shift, scale = self._of_data or self._of_images(pixels)
        # NUMERICS: two operations, not one fused one. Vector and scalar code may round a fused one
        # differently, and a lane's bits must not depend on its position in the batch.
        return x.sub_(shift).div_(scale).to(self._dtype)

    def _of_images(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of every image of every lane, in levels: (N, K·C, 1, 1) each.

        NUMERICS: sums of integers are exact, so an image has the same bits in every stack.
        """
        levels = pixels.reshape(len(pixels), self._lanes, -1).int()
        count = levels.shape[2]
        total, square = levels.sum(2), levels.square().sum(2)
        variance = (square * count - total * total).double() / count**2
        deviation = torch.where(variance == 0, 255.0, variance.sqrt())
        return self._per_channel(total.double() / count), self._per_channel(deviation)

    def _per_channel(self, numbers: Tensor) -> Tensor:
        """(N, K) → (N, K·C, 1, 1), in the type that is computed with."""
        repeated = numbers.to(self._working).unsqueeze(2).expand(-1, -1, self._channels)
        return repeated.reshape(len(numbers), -1, 1, 1)
