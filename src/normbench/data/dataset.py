"""Dataset: the splits as uint8 images, with the statistics that standardize them.

Images are tensors, or `data.streamed` if they do not fit into memory. Labels are tensors in any case.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from normbench import memory
from normbench.data import streaming
from normbench.data.fingerprint import check_unchanged, remember
from normbench.data.fit import describe_fit, fit
from normbench.data.kept_statistics import kept_statistics
from normbench.data.raw import Raw
from normbench.data.shape import Shape
from normbench.data.shapes import SOURCES, shape_of
from normbench.data.streamed import StreamedImages
from normbench.data.streaming import why_streamed
from normbench.data.validation import validation_mask
from normbench.errors import InputError
from normbench.spec import DataSpec

TENSORS = (
    "train_images", "train_labels", "valid_images", "valid_labels", "test_images", "test_labels",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Dataset:
    """The splits on one device.

    `mean` and `std` are what is subtracted and by what is divided, as `data.moments` says: per channel, per
    position, or empty if images are standardized by their own. White is 1.
    """

    name: str
    classes: int
    train_images: Tensor | StreamedImages  # (n, C, size, size) uint8
    train_labels: Tensor  # (n,) int64
    test_images: Tensor | StreamedImages
    test_labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]  # 1 for a channel that is constant
    fitted: str  # what was done to the images, in words for the record
    standardize: str = "channel"  # see `data.standardize`
    valid_images: Tensor | StreamedImages = field(default_factory=lambda: torch.empty(0, dtype=torch.uint8))
    valid_labels: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    @property
    def channels(self) -> int:
        return self.train_images.shape[1]

    @property
    def size(self) -> int:
        return self.train_images.shape[-1]

    @property
    def shape(self) -> Shape:
        """Channels, side, classes and image counts: what a network is built for."""
        images = (len(self.train_labels), len(self.test_labels), len(self.valid_labels))
        return Shape(self.channels, self.size, self.classes, *images)

    @property
    def validation(self) -> Dataset:
        """The same data set with the validation images in place of the test images."""
        return replace(self, test_images=self.valid_images, test_labels=self.valid_labels)

    def to(self, device: torch.device | str) -> Dataset:
        """The same data set with its tensors on another device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in TENSORS})


def _check_memory(spec: DataSpec, shape: Shape, size: int | None) -> None:
    """Refuse data that do not fit into the memory, before it is taken.

    Raises:
        InputError: the images in use need more bytes than are free.
    """
    images = shape.train_images + shape.valid_images + shape.test_images
    sides = {shape.size, size or shape.size}  # a copy at the side of the model stands beside the first
    needed = images * shape.channels * sum(side**2 for side in sides)
    if needed > (free := memory.free_bytes()):
        raise InputError(
            f"data={spec.name} needs {memory.size(needed)} of memory for {images:,} images of "
            f"{shape.channels}×{max(sides)}×{max(sides)}; {memory.size(free)} are free; "
            "lower data.train_size, data.test_size or data.size, or free some"
            + ("; data.stream=true reads images while training" if spec.name == "folder" else "")
        )


def assemble(spec: DataSpec, size: int | None, cache: Path | None, free: int | None = None) -> Dataset:
    """Read, keep the images in use, fit them, split off the validation images, and compute the statistics.

    See `normbench.data.load`.

    Raises:
        InputError: the data do not fit into the memory, or what `load` names.
    """
    shape = shape_of(spec, cache)
    stream = bool(why_streamed(spec, size, cache, free))
    train, labels, tests, test_labels, note = (_streamed if stream else _loaded)(spec, shape, size, cache)
    validation = {}
    if shape.valid_images:
        mask = validation_mask(labels, shape.valid_images)
        validation = {"valid_images": train[mask], "valid_labels": labels[mask]}
        train, labels = train[~mask], labels[~mask]
    mean, std = kept_statistics(spec, train, cache)
    return Dataset(
        name=spec.name,
        classes=shape.classes,
        train_images=train,
        train_labels=labels,
        test_images=tests,
        test_labels=test_labels,
        mean=mean,
        std=std,
        fitted="; ".join(filter(None, (describe_fit(shape.size, size), note))),
        standardize=spec.standardize,
        **validation,  # type: ignore[arg-type]
    )


class _Splits(NamedTuple):
    """The images in use, fitted, with their labels."""

    train_images: Tensor | StreamedImages
    train_labels: Tensor
    test_images: Tensor | StreamedImages
    test_labels: Tensor
    note: str  # see `Raw.note`


def _loaded(spec: DataSpec, shape: Shape, size: int | None, cache: Path | None) -> _Splits:
    _check_memory(spec, shape, size)
    raw: Raw = import_module(f"normbench.data.{SOURCES.get(spec.name, 'own')}").read(spec, cache)
    _check_and_remember(spec, cache)
    in_use = shape.train_images + shape.valid_images
    return _Splits(
        fit(torch.from_numpy(raw.train_images[:in_use]), size),
        torch.from_numpy(raw.train_labels[:in_use]),
        fit(torch.from_numpy(raw.test_images[: shape.test_images]), size),
        torch.from_numpy(raw.test_labels[: shape.test_images]),
        raw.note,
    )


def _streamed(spec: DataSpec, shape: Shape, size: int | None, cache: Path | None) -> _Splits:
    found = streaming.splits(spec, size, cache)
    _check_and_remember(spec, cache)
    in_use, tests = slice(shape.train_images + shape.valid_images), slice(shape.test_images)
    return _Splits(
        found.train[in_use], found.train_labels[in_use], found.test[tests], found.test_labels[tests],
        found.note,
    )  # fmt: skip


def _check_and_remember(spec: DataSpec, cache: Path | None) -> None:
    knobs = spec.model_dump()
    check_unchanged(knobs, spec.fingerprint, cache)
    if cache is not None:
        remember(knobs, cache)
