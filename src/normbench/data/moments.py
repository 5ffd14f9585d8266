"""Statistics of training images, as `data.standardize` asks for them. They are exact: sums of integers."""

from __future__ import annotations

import torch
from torch import Tensor

from normbench.data.streamed import StreamedImages, in_blocks

#: What is subtracted and by what is divided, both with white as 1.
Moments = tuple[tuple[float, ...], tuple[float, ...]]


def statistics(standardize: str, images: Tensor | StreamedImages) -> Moments:
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
        ends = [(int(part.min()), int(part.max())) for part in in_blocks(images)]
        low, high = min(low for low, _ in ends), max(high for _, high in ends)
        return (low / 255,) * channels, ((high - low) / 255 or 1.0,) * channels
    return position_moments(images) if standardize == "pixel" else moments(images)


def moments(images: Tensor | StreamedImages) -> Moments:
    """Mean and standard deviation per channel of images (n, C, H, W) uint8. White is 1.

    The sums over a histogram are exact integers, so neither order nor threads change the result.
    """
    means, deviations = [], []
    histograms = torch.zeros(images.shape[1], 256, dtype=torch.int64)
    for part in in_blocks(images):
        for channel, histogram in enumerate(histograms):
            histogram += torch.bincount(part[:, channel].reshape(-1), minlength=256).cpu()
    for histogram in histograms.tolist():
        pixels = sum(histogram)
        total = sum(level * n for level, n in enumerate(histogram))
        square = sum(level * level * n for level, n in enumerate(histogram))
        variance = (square * pixels - total * total) / pixels**2
        means.append(total / pixels / 255)
        deviations.append(variance**0.5 / 255 or 1.0)
    return tuple(means), tuple(deviations)


def position_moments(images: Tensor | StreamedImages) -> Moments:
    """Mean and standard deviation per channel and position of images (n, C, H, W) uint8. White is 1.

    The deviation of a position that is constant is 1.
    """
    n = len(images)
    total = torch.zeros(images.shape[1:].numel(), dtype=torch.int64, device=images.device)
    square = total.clone()
    for part in in_blocks(images):
        levels = part.flatten(1).int()
        total += levels.sum(0)
        square += levels.square().sum(0)
    variance = (square * n - total * total).double() / n**2
    deviation = torch.where(variance == 0, 255.0, variance.sqrt()) / 255
    return tuple((total.double() / n / 255).tolist()), tuple(deviation.tolist())
