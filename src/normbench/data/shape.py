"""Shape: channels, side, classes and image counts of a data set; those of the published ones."""

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
    valid_images: int = 0  # these are not among the training images

    def resized(self, size: int) -> Shape:
        """The same, with images of another side."""
        return replace(self, size=size)


#: Data sets whose shape never changes.
KNOWN = {
    "digits": Shape(1, 8, 10, 1297, 500),
    "mnist": Shape(1, 28, 10, 60_000, 10_000),
    "fashion_mnist": Shape(1, 28, 10, 60_000, 10_000),
    "cifar10": Shape(3, 32, 10, 50_000, 10_000),
    "cifar100": Shape(3, 32, 100, 50_000, 10_000),
}
