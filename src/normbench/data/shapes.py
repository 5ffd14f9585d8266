"""The shape of every data set (channels, side, classes, images), without its pixels and without torch."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from normbench import parts
from normbench.data.shape import KNOWN, Shape
from normbench.errors import InputError, unknown

if TYPE_CHECKING:
    from normbench.spec import DataSpec


#: Name of a data set → the module of this package that reads it.
SOURCES = {
    "digits": "digits",
    "mnist": "vision",
    "fashion_mnist": "vision",
    "cifar10": "vision",
    "cifar100": "vision",
    "folder": "folder",
    "synthetic": "synthetic",
}


def shape_of(spec: DataSpec, cache: Path | None = None) -> Shape:
    """The shape of the images that a spec asks for, before they are fitted to a model.

    The validation images are taken from the first `data.train_size` images; the others are trained on.

    Only `folder` reads files: the copy that an earlier decoding left in `cache`, or else the images.
    A data set of a plugin is read whole, once in a process.

    Raises:
        InputError: the name is unknown, a folder holds no data set, more images are wanted than exist, or
            `data.valid` leaves the validation or the training split empty.
    """
    if spec.name in KNOWN:
        whole = KNOWN[spec.name]
    elif spec.name == "synthetic":
        whole = _synthetic(spec)
    elif spec.name == "folder":
        from normbench.data.folder import shape

        whole = shape(spec, cache)
    elif parts.find("data", spec.name) is not None:
        from normbench.data.own import shape as own_shape

        whole = own_shape(spec.name, spec.path)
    else:
        raise unknown("data", spec.name, [*SOURCES, *parts.names("data")])
    train = _first(spec, "train_size", spec.train_size, whole.train_images)
    valid = _validation_images(spec, train)
    return replace(
        whole,
        train_images=train - valid,
        test_images=_first(spec, "test_size", spec.test_size, whole.test_images),
        valid_images=valid,
    )


def check_crop(spec: DataSpec, side: int) -> None:
    """Refuse a padding that is wider than the images: a crop might show none of the image.

    Args:
        side: of the images as the model gets them, in pixels.

    Raises:
        InputError: `data.crop` is larger, or the crops of `data.resized_crop` would be cropped again.
    """
    if spec.resized_crop and spec.crop:
        raise InputError(
            f"data.resized_crop={spec.resized_crop:g} and data.crop={spec.crop} are two kinds of random "
            "crops; give data.crop=0, or data.resized_crop=0"
        )
    if spec.resized_crop and spec.stream is False:
        raise InputError(
            f"data.resized_crop={spec.resized_crop:g} takes crops of the stored images, so data.stream must "
            "be true or auto; got false"
        )
    if spec.crop > side:
        raise InputError(
            f"data.crop must be at most {side}, the side of the images as the model gets them, because a "
            f"crop might show padding alone; got {spec.crop}"
        )


def _first(spec: DataSpec, knob: str, wanted: int | Literal["all"], held: int) -> int:
    if wanted == "all":
        return held
    if wanted > held:
        raise InputError(
            f"data.{knob} must be at most {held}, the images of that split of {spec.name}; got {wanted}; "
            f"give at most {held}, or all"
        )
    return wanted


def _validation_images(spec: DataSpec, images: int) -> int:
    """How many of the training images in use are the validation split: `data.valid` of them, rounded."""
    if not spec.valid:
        return 0
    valid = math.floor(Fraction(str(spec.valid)) * images + Fraction(1, 2))
    if not 0 < valid < images:
        split = "validation" if valid == 0 else "training"
        raise InputError(
            f"data.valid must leave images to both splits; {spec.valid:g} of the {images} training images of "
            f"{spec.name} leaves the {split} split empty; give for example 0.1, or 0 for no validation split"
        )
    return valid


def _synthetic(spec: DataSpec) -> Shape:
    numbers = (spec.channels, spec.size, spec.classes, spec.train_size, spec.test_size)
    channels, size, classes, train, test = (n if isinstance(n, int) else 0 for n in numbers)
    if not all((channels, size, classes, train, test)):
        raise InputError(
            "data=synthetic has no files, so channels, size, classes, train_size and test_size must "
            f"be numbers; got {', '.join(map(str, numbers))}"
        )
    return Shape(channels, size, classes, train, test)
