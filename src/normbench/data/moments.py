"""Statistics of training images, as `data.standardize` asks for them. They are exact: sums of integers."""

from __future__ import annotations

import torch
from torch import Tensor

#: What is subtracted and by what is divided, both with white as 1.
Moments = tuple[tuple[float, ...], tuple[float, ...]]

_CHUNK = 1024  # images summed at once: bounds the memory of their int32 copy


def statistics(standardize: str, images: Tensor) -> Moments:
    """Shift and scale of `(pixel − shift) / scale`, with white as 1; empty if each image has its own.

    Args:
        standardize: as `data.standardize`.
        images:      (n, C, H, W) uint8, the training images fitted to the model.

    Returns:
        C numbers each, one per channel; for `pixel` C·H·W numbers each, in the order of the image's memory.
    """
    channels = images.shape[1]
    if standardize == "image":
        return (), ()
    if standardize == "none":
        return (0.0,) * channels, (1.0,) * channels
    if standardize == "minmax":
        low, high = int(images.min()), int(images.max())
        return (low / 255,) * channels, ((high - low) / 255 or 1.0,) * channels
    return position_moments(images) if standardize == "pixel" else moments(images)


def moments(images: Tensor) -> Moments:
    """Mean and standard deviation per channel of images (n, C, H, W) uint8. White is 1.

    The sums over a histogram are exact integers, so neither order nor threads change the result.
    """
    means, deviations = [], []
    for channel in range(images.shape[1]):
        histogram = torch.bincount(images[:, channel].reshape(-1), minlength=256).tolist()
        pixels = sum(histogram)
        total = sum(level * n for level, n in enumerate(histogram))
        square = sum(level * level * n for level, n in enumerate(histogram))
        variance = (square * pixels - total * total) / pixels**2
        means.append(total / pixels / 255)
        deviations.append(variance**0.5 / 255 or 1.0)
    return tuple(means), tuple(deviations)


def position_moments(images: Tensor) -> Moments:
    """Mean and standard deviation per channel and position of images (n, C, H, W) uint8. White is 1.

    The deviation of a position that is constant is 1.
    """
    n = len(images)
    total = images.new_zeros(images[0].numel(), dtype=torch.int64)
    square = total.clone()
    for part in images.flatten(1).split(_CHUNK):
        levels = part.int()
        total += levels.sum(0)
        square += levels.square().sum(0)
    variance = (square * n - total * total).double() / n**2
    deviation = torch.where(variance == 0, 255.0, variance.sqrt()) / 255
    return tuple((total.double() / n / 255).tolist()), tuple(deviation.tolist())
