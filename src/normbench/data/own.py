"""Data sets of plugins: a function returns both splits as arrays. They are read once in a process."""

from __future__ import annotations

import hashlib
import inspect
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from normbench import parts
from normbench.data.raw import Images, Labels, Raw
from normbench.data.shape import Shape
from normbench.errors import InputError, NormbenchError, reason
from normbench.parts import Part
from normbench.spec import DataSpec


def read(spec: DataSpec, cache: Path | None) -> Raw:
    """Both splits of the data set of a run."""
    return _arrays(_part(spec.name), spec.path)


def shape(name: str, path: str | None) -> Shape:
    """Channels, side, classes and image counts of the whole data set.

    Raises:
        InputError: it cannot be read, or its arrays do not fit.
    """
    raw = _arrays(_part(name), path)
    _, channels, size, _ = raw.train_images.shape
    classes = 1 + int(max(raw.train_labels.max(), raw.test_labels.max()))
    return Shape(channels, size, classes, len(raw.train_images), len(raw.test_images))


def content(name: str, path: str | None) -> str:
    """The hash of images and labels, as sixteen hex digits.

    Raises:
        InputError: as `shape`.
    """
    return _hash(_part(name), path)


def _part(name: str) -> Part:
    part = parts.find("data", name)
    assert part is not None, f"no plugin has a data set {name}"
    return part


@lru_cache(maxsize=4)
def _read(origin: tuple[str, str], digest: str, path: str | None, name: str) -> Raw:
    made = _part(name).made
    given = {"path": path} if "path" in inspect.signature(made).parameters else {}
    try:
        found = made(**given)
        if not isinstance(found, tuple) or len(found) != 4:
            raise InputError(
                "it must return train_images, train_labels, test_images, test_labels; got "
                f"{f'{len(found)} values' if isinstance(found, tuple) else type(found).__name__}"
            )
        raw = Raw(
            _images("train_images", found[0]), _labels("train_labels", found[1], len(found[0])),
            _images("test_images", found[2]), _labels("test_labels", found[3], len(found[2])),
        )  # fmt: skip
        if raw.train_images.shape[1:] != raw.test_images.shape[1:]:
            raise InputError(
                f"images of both splits must have one shape; got {raw.train_images.shape[1:]} and "
                f"{raw.test_images.shape[1:]}"
            )
    except Exception as error:
        said = str(error) if isinstance(error, NormbenchError) else reason(error)
        raise InputError(f"data={name} cannot be read: {said}") from None
    return raw


def _arrays(part: Part, path: str | None) -> Raw:
    return _read(part.origin, part.plugin.digest, path, part.name)


@lru_cache(maxsize=4)
def _hash_of(origin: tuple[str, str], digest: str, path: str | None, name: str) -> str:
    found = hashlib.sha256()
    for array in _read(origin, digest, path, name)[:4]:
        found.update(f"{array.shape}{array.dtype}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()[:16]


def _hash(part: Part, path: str | None) -> str:
    return _hash_of(part.origin, part.plugin.digest, path, part.name)


def _images(name: str, value: Any) -> Images:
    """Images as (n, C, size, size).

    Raises:
        InputError: they are no square uint8 images.
    """
    images = np.asarray(value)
    if images.ndim == 3:
        images = images[:, None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[2] != images.shape[3] or not images.size:
        raise InputError(
            f"{name} must be uint8 of shape (n, size, size) or (n, channels, size, size); got {images.dtype} "
            f"of shape {np.asarray(value).shape}"
        )
    return np.ascontiguousarray(images)


def _labels(name: str, value: Any, images: int) -> Labels:
    """Labels as (n,) of int64.

    Raises:
        InputError: they are no whole numbers from 0, or not one per image.
    """
    labels = np.asarray(value)
    if labels.shape != (images,) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise InputError(
            f"{name} must be {images} whole numbers from 0, one per image; got {labels.dtype} of shape "
            f"{labels.shape}"
        )
    return labels.astype(np.int64)
