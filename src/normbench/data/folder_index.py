"""Which image of a folder data set stands where: train/<class>/ and test/<class>/, by names alone."""

from __future__ import annotations

import io
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from normbench.data.members import members
from normbench.errors import InputError

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}

_ByClass = dict[str, list[str]]  # class → member names


class Place(NamedTuple):
    """Where an image stands in the decoded arrays."""

    split: str  # train | test
    position: int
    label: int


@dataclass(frozen=True)
class FolderIndex:
    """A folder data set before its pixels are decoded.

    A split stands in rounds: the first image of every class, then the second of every class, and so on, by
    name. So the first n images of a split hold all classes in near equal parts.
    """

    classes: tuple[str, ...]  # sorted; the label is the position
    places: dict[str, Place]  # by member name
    counts: dict[str, int]  # images of "train" and "test"
    side: int  # of the first training image, the shorter one
    channels: int  # of the first training image: 1 (grey) | 3


@lru_cache(maxsize=8)
def index_folder(path: str, fingerprint: str) -> FolderIndex:
    """Find the images under `path`; `fingerprint` tells this content of the path from an earlier one.

    Raises:
        InputError: the data cannot be read, a split is missing, the splits differ in their classes, or there
            are fewer than two classes.
    """
    found: dict[str, _ByClass] = defaultdict(lambda: defaultdict(list))
    tops = set()
    first, content = None, b""
    for member in members(Path(path).expanduser()):
        parsed = _parse(member.name)
        if parsed is None:
            continue
        top, split, class_name = parsed
        tops.add(top)
        found[split][class_name].append(member.name)
        key = (class_name, member.name)
        if split == "train" and (first is None or key < first):
            first, content = key, member.read()
    splits = _splits(path, tops, found)
    classes = _classes(path, set(splits["train"]), set(splits["test"]))
    side, channels = _look_at(path, first[1] if first else "", content)
    return FolderIndex(
        classes=classes,
        places={
            name: Place(split, position, label)
            for split, by_class in splits.items()
            for position, (_, label, name) in enumerate(_rounds(by_class, classes))
        },
        counts={split: sum(map(len, by_class.values())) for split, by_class in splits.items()},
        side=side,
        channels=channels,
    )


def unreadable(path: str, name: str, error: Exception) -> InputError:
    """The error for a member that is named like an image and cannot be decoded."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"cannot decode {name} of data.path={path} ({reason}); replace or remove it")


def _parse(name: str) -> tuple[str, str, str] | None:
    """(top, split, class) of [top/](train|test|val)/<class>/…/<image>; None for hidden and other files."""
    path = PurePosixPath(name)
    if path.suffix.lower() not in _SUFFIXES or any(p.startswith((".", "__MACOSX")) for p in path.parts):
        return None
    for depth in (0, 1):
        if len(path.parts) >= depth + 3 and path.parts[depth] in ("train", "test", "val"):
            return "/".join(path.parts[:depth]), path.parts[depth], path.parts[depth + 1]
    return None


def _splits(path: str, tops: set[str], found: dict[str, _ByClass]) -> dict[str, _ByClass]:
    """The two splits; `val` stands in for `test` where there is none."""
    if len(tops) > 1:
        listing = ", ".join(sorted(top or "." for top in tops))
        raise InputError(f"data.path={path} must hold one data set; got those in {listing}; keep one")
    splits = {"train": found["train"], "test": found["test"] or found["val"]}
    for split, by_class in splits.items():
        if not by_class:
            raise InputError(
                f"data.path={path} must hold images as train/<class>/* and test/<class>/* or val/<class>/*, "
                f"but has none for the {split} split; arrange them so"
            )
    return splits


def _classes(path: str, train: set[str], test: set[str]) -> tuple[str, ...]:
    if train != test:
        name = min(train ^ test)
        raise InputError(
            f"train and test of data.path={path} must have the same classes; {name} is only in "
            f"{'train' if name in train else 'test'} ({len(train ^ test)} differ); add or remove its images"
        )
    if len(train) < 2:
        raise InputError(f"data.path={path} must hold 2 classes or more; got {min(train)} alone; add another")
    return tuple(sorted(train))


def _rounds(by_class: _ByClass, classes: tuple[str, ...]) -> list[tuple[int, int, str]]:
    """(round, label, member name), sorted."""
    return sorted(
        (turn, label, name)
        for label, class_name in enumerate(classes)
        for turn, name in enumerate(sorted(by_class[class_name]))
    )


def _look_at(path: str, name: str, content: bytes) -> tuple[int, int]:
    """The shorter side and the channels of an encoded image."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            return min(image.size), 1 if image.mode in ("1", "L", "LA", "La") else 3
    except Exception as error:  # an image decoder fed with damaged bytes may raise anything
        raise unreadable(path, name, error) from None
