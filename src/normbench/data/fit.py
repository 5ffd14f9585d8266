"""Fit images to the side that a model wants: pad them if they are slightly smaller, otherwise resize."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

#: Up to this ratio of new side to old side, images are padded (lecun1998 puts 28×28 into 32×32).
PADDED_UP_TO = 1.25
_CHUNK = 1024  # images resized at once: bounds the memory of their float copy


def describe_fit(side: int, size: int | None) -> str:
    """What `fit` does to images of side `side`, in words for the record.

    >>> describe_fit(28, None), describe_fit(28, 32), describe_fit(8, 32)
    ('as is (28×28)', 'padded 28→32', 'resized 8→32 bilinear')
    """
    if size is None or size == side:
        return f"as is ({side}×{side})"
    return f"padded {side}→{size}" if _pads(side, size) else f"resized {side}→{size} bilinear"


def fit(images: Tensor, size: int | None) -> Tensor:
    """Images (n, C, side, side) uint8 → (n, C, size, size) uint8; unchanged if the side is right.

    Padding is zeros on all sides; an odd pixel goes to the bottom and the right. Resizing is bilinear with
    antialiasing.
    """
    side = images.shape[-1]
    if size is None or size == side:
        return images
    if _pads(side, size):
        before = (size - side) // 2
        after = size - side - before
        return F.pad(images, (before, after, before, after))
    fitted = images.new_empty(*images.shape[:2], size, size)
    for start in range(0, len(images), _CHUNK):
        part = images[start : start + _CHUNK].float()
        resized = F.interpolate(part, (size, size), mode="bilinear", antialias=True)
        fitted[start : start + _CHUNK] = resized.round().clamp(0, 255).to(torch.uint8)
    return fitted


def _pads(side: int, size: int) -> bool:
    return side < size <= PADDED_UP_TO * side
