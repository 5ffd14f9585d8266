"""Shape: what a data set is, without its pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Shape:
    """Images are (channels, size, size) uint8; the counts are those of the splits in use."""

    channels: int
    size: int
    classes: int
    train_images: int
    test_images: int

    def resized(self, size: int) -> Shape:
        """The same splits with images of another side."""
        return replace(self, size=size)
