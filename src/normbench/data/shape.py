"""Shape: channels, side, classes and image counts of a data set, without its pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Shape:
    """Images are (channels, size, size) uint8; the counts are those of the images in use."""

    channels: int
    size: int
    classes: int
    train_images: int
    test_images: int

    def resized(self, size: int) -> Shape:
        """The same, with images of another side."""
        return replace(self, size=size)
