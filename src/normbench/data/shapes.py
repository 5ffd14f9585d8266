"""What a data set is, known without loading a pixel: channels, side, classes, images. Never imports torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from normbench.data.shape import Shape
from normbench.errors import InputError, unknown

if TYPE_CHECKING:
    from normbench.spec import DataSpec


#: Data sets that are always the same.
KNOWN = {
    "digits": Shape(1, 8, 10, 1297, 500),
    "mnist": Shape(1, 28, 10, 60_000, 10_000),
    "fashion_mnist": Shape(1, 28, 10, 60_000, 10_000),
    "cifar10": Shape(3, 32, 10, 50_000, 10_000),
    "cifar100": Shape(3, 32, 100, 50_000, 10_000),
}

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
    """The shape of the splits that a spec asks for, before a model's size is applied.

    Only `folder` looks at files: at names and one image, or at what an earlier decoding left in `cache`.

    Raises:
        InputError: an unknown name, a folder without a data set, more images asked for than there are.
    """
    if spec.name in KNOWN:
        whole = KNOWN[spec.name]
    elif spec.name == "synthetic":
        whole = _synthetic(spec)
    elif spec.name == "folder":
        from normbench.data.folder import shape

        whole = shape(spec, cache)
    else:
        raise unknown("data", spec.name, SOURCES)
    return replace(
        whole,
        train_images=_first(spec, "train_size", spec.train_size, whole.train_images),
        test_images=_first(spec, "test_size", spec.test_size, whole.test_images),
    )


def _first(spec: DataSpec, knob: str, wanted: int | Literal["all"], held: int) -> int:
    if wanted == "all":
        return held
    if wanted > held:
        raise InputError(
            f"data.{knob} takes the first images of a split, but that of {spec.name} holds {held}; "
            f"got {wanted}; give at most {held}, or all"
        )
    return wanted


def _synthetic(spec: DataSpec) -> Shape:
    numbers = (spec.channels, spec.size, spec.classes, spec.train_size, spec.test_size)
    channels, size, classes, train, test = (n if isinstance(n, int) else 0 for n in numbers)
    if not all((channels, size, classes, train, test)):
        raise InputError(
            "data=synthetic has no files to look at: channels, size, classes, train_size and test_size must "
            f"be numbers; got {', '.join(map(str, numbers))}"
        )
    return Shape(channels, size, classes, train, test)
