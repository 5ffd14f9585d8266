"""Decoded images on disk. One folder per data set, whole or absent, safe with several processes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from normbench.data import npy
from normbench.data.raw import Raw
from normbench.data.shape import Shape
from normbench.errors import InputError
from normbench.leftovers import draft_beside, remove_leftovers

_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
_ABOUT = "shape.json"


class About(NamedTuple):
    """What is known of a copy without its arrays."""

    shape: Shape
    note: str  # see `Raw.note`


def load_about(place: Path | None) -> About | None:
    """Shape and note of the images in `place`; None if nothing readable is there."""
    if place is None:
        return None
    try:
        tree = json.loads((place / _ABOUT).read_text(encoding="utf-8"))
        return About(note=str(tree.pop("note", "")), shape=Shape(**tree))
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def load_arrays(place: Path | None) -> Raw | None:
    """Memory-map the images in `place`; None if no whole copy is there. Writes do not reach the files."""
    about = load_about(place)
    if place is None or about is None:
        return None
    try:
        arrays = [npy.load(array_file(place, name)) for name in _ARRAYS]
    except (OSError, ValueError, EOFError):
        return None
    whole = about.shape
    image = (whole.channels, whole.size, whole.size)
    train, test = whole.train_images, whole.test_images
    if [array.shape for array in arrays] != [(train, *image), (train,), (test, *image), (test,)]:
        return None
    if [array.dtype for array in arrays] != [np.uint8, np.int64] * 2:
        return None
    return Raw(arrays[0], arrays[1], arrays[2], arrays[3], about.note)


def array_file(place: Path, name: str) -> Path:
    """The file of an array, such as train_images, in a copy."""
    return place / f"{name}.npy"


def load_or_read(place: Path | None, shape: Shape, read: Callable[[], Raw]) -> Raw:
    """Load the copy in `place`; if there is none, call `read` and save its result.

    If the cache cannot be written, nothing is saved and no error is raised.
    PERF: importing the library that reads a data set takes longer than loading the copy.
    """
    copy = load_arrays(place)
    if copy is not None:
        return copy
    raw = read()
    with suppress(InputError):
        save(place, raw, shape)
    return raw


def save(place: Path | None, raw: Raw, shape: Shape) -> None:
    """Write beside `place`, then rename: another process sees all files or none. None saves nothing.

    Raises:
        InputError: the cache cannot be written.
    """
    if place is None:
        return

    def write(draft: Path) -> None:
        for name in _ARRAYS:
            with array_file(draft, name).open("wb") as file:
                np.save(file, getattr(raw, name))

    save_written(place, About(shape, raw.note), write)


def save_written(place: Path, about: About, write: Callable[[Path], None]) -> None:
    """As `save`, with a function that writes the arrays into a folder: they need not be in memory.

    What killed processes left half written there is removed first.

    Raises:
        InputError: the cache cannot be written, or what `write` raises.
    """
    draft = draft_beside(place)
    remove_leftovers(place.parent)
    try:
        draft.mkdir(parents=True)
        write(draft)
        for name in _ARRAYS:
            with array_file(draft, name).open("rb+") as file:
                os.fsync(file.fileno())  # otherwise the rename may reach the disk before the pixels
        tree = asdict(about.shape) | {"note": about.note}
        (draft / _ABOUT).write_text(json.dumps(tree), encoding="utf-8")
        _publish(draft, place)
    except OSError as error:
        raise InputError(
            f"cannot write the decoded images to {place.parent} ({error.strerror or error}); make room "
            "there, or set NORMBENCH_RESULTS to a folder that can be written"
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _publish(draft: Path, place: Path) -> None:
    if load_arrays(place) is not None:
        return  # another process decoded the same images meanwhile
    shutil.rmtree(place, ignore_errors=True)
    try:
        draft.rename(place)
    except OSError:
        if load_arrays(place) is None:
            raise
