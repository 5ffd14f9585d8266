"""Dataset: both splits as uint8 tensors, with the moments that standardize them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor

from normbench.data.fingerprint import check_unchanged, remember
from normbench.data.fit import describe_fit, fit
from normbench.data.raw import Raw
from normbench.data.shape import Shape
from normbench.data.shapes import SOURCES, shape_of
from normbench.spec import DataSpec


@dataclass(frozen=True, eq=False)
class Dataset:
    """Both splits on one device.

    `mean` and `std` are per channel, over the training pixels in use after fitting. White is 1.
    """

    name: str
    classes: int
    train_images: Tensor  # (n, C, size, size) uint8
    train_labels: Tensor  # (n,) int64
    test_images: Tensor
    test_labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]  # 1 for a channel that is constant
    fitted: str  # what was done to the images, in words for the record

    @property
    def channels(self) -> int:
        return self.train_images.shape[1]

    @property
    def size(self) -> int:
        return self.train_images.shape[-1]

    @property
    def shape(self) -> Shape:
        """Channels, side, classes and image counts: what a network is built for."""
        return Shape(self.channels, self.size, self.classes, len(self.train_labels), len(self.test_labels))

    def share(self) -> Dataset:
        """The same data set; its tensors move to memory that processes share."""
        for tensor in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            tensor.share_memory_()
        return self

    def to(self, device: torch.device | str) -> Dataset:
        """The same data set with its tensors on another device."""
        return replace(
            self,
            train_images=self.train_images.to(device),
            train_labels=self.train_labels.to(device),
            test_images=self.test_images.to(device),
            test_labels=self.test_labels.to(device),
        )


def assemble(spec: DataSpec, size: int | None, cache: Path | None) -> Dataset:
    """Read, keep the images in use, fit them, and compute the moments; see `normbench.data.load`."""
    shape = shape_of(spec, cache)
    raw: Raw = import_module(f"normbench.data.{SOURCES[spec.name]}").read(spec, cache)
    knobs = spec.model_dump()
    check_unchanged(knobs, spec.fingerprint, cache)
    if cache is not None:
        remember(knobs, cache)
    train = fit(torch.from_numpy(raw.train_images[: shape.train_images]), size)
    test = fit(torch.from_numpy(raw.test_images[: shape.test_images]), size)
    mean, std = moments(train)
    return Dataset(
        name=spec.name,
        classes=shape.classes,
        train_images=train,
        train_labels=torch.from_numpy(raw.train_labels[: shape.train_images]),
        test_images=test,
        test_labels=torch.from_numpy(raw.test_labels[: shape.test_images]),
        mean=mean,
        std=std,
        fitted="; ".join(filter(None, (describe_fit(shape.size, size), raw.note))),
    )


def moments(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
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
