"""The label of each image of a folder data set, and its position in the arrays."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from normbench.data import folder_causes as causes
from normbench.data.folder_scan import FoundImage, Scan, scan
from normbench.data.image import Look
from normbench.data.members import Key
from normbench.errors import InputError

_ByClass = dict[str, list[FoundImage]]


class Place(NamedTuple):
    """The position of an image in the decoded arrays."""

    split: str  # train | test
    position: int
    label: int
    name: str


@dataclass(frozen=True)
class FolderIndex:
    """A folder data set before its pixels are decoded.

    The images of a split are in rounds: the first image of every class by name, then the second of every
    class, and so on. So the first n images of a split contain all classes in nearly equal numbers.
    """

    classes: tuple[str, ...]  # sorted; the label is the position
    places: dict[Key, tuple[Place, ...]]  # by the member that holds the bytes
    counts: dict[str, int]  # images of "train" and "test"
    sizes: Counter[tuple[int, int]]  # images of each width and height, over both splits
    coloured: int  # images that are not grey, over both splits
    notes: tuple[str, ...]  # what was not used or not applied

    @property
    def side(self) -> int:
        """The median of the shorter sides of all images, the lower one of two."""
        return sorted(min(size) for size in self.sizes.elements())[(sum(self.counts.values()) - 1) // 2]

    @property
    def channels(self) -> int:
        """1 if all images are grey, else 3: colour cannot be restored, grey can be repeated."""
        return 3 if self.coloured else 1

    def decisions(self, side: int, channels: int, *, auto_side: bool, auto_channels: bool) -> str:
        """What was decided about images that differ, for the record; "" if all have one size and mode."""
        images, words = sum(self.counts.values()), []
        shorter = {min(size) for size in self.sizes}
        if auto_side and len(shorter) > 1:
            words.append(f"side {side}: the median of {images} images of {min(shorter)} … {max(shorter)}")
        if auto_channels and 0 < self.coloured < images:
            words.append(f"{channels} channels: {self.coloured} of {images} images have colour")
        if changed := images - self.sizes[side, side]:
            words.append(f"{changed} of {images} images cropped to a square and resized to {side}×{side}")
        return "; ".join((*words, *self.notes))


@lru_cache(maxsize=8)
def index_folder(path: str, fingerprint: str) -> FolderIndex:
    """Find the images under `path`; `fingerprint` tells this content of the path from an earlier one.

    Raises:
        InputError: the data cannot be read, a split is missing, a class has no image, the splits differ in
            their classes, two classes have the same name, or there are fewer than two classes.
    """
    found = scan(path)
    if len(found.tops) > 1:
        listing = ", ".join(sorted(top or "." for top in found.tops))
        raise InputError(f"data.path={path} must hold one data set; got those in {listing}; keep one")
    splits, unused = _splits(path, found)
    classes = _classes(path, splits)
    places: dict[Key, list[Place]] = defaultdict(list)
    looks = []
    for split, by_class in splits.items():
        for place, (_, label, name, key) in enumerate(_rounds(by_class, classes)):
            places[key].append(Place(split, place, label, name))
            looks.append(found.looks[key])
    seen = [each for each in looks if isinstance(each, Look)]
    return FolderIndex(
        classes=classes,
        places={key: tuple(each) for key, each in places.items()},
        counts={split: sum(map(len, by_class.values())) for split, by_class in splits.items()},
        sizes=Counter((each.width, each.height) for each in seen),
        coloured=sum(each.colour for each in seen),
        notes=tuple(causes.notes(seen, unused, found)),
    )


def _splits(path: str, found: Scan) -> tuple[dict[str, _ByClass], int]:
    """The two splits, and how many images of `val` are not used because there is a `test`."""
    grouped: dict[str, _ByClass] = defaultdict(lambda: defaultdict(list))
    for image in found.images:
        grouped[image.split][image.class_name].append(image)
    held_out = "test" if grouped["test"] else "val"
    splits = {"train": grouped["train"], "test": grouped[held_out]}
    for split, by_class in splits.items():
        if not by_class:
            raise causes.no_images(path, split, found)
    for split, class_name, name in sorted(found.class_folders):
        if split in ("train", held_out) and class_name not in grouped[split]:
            raise causes.empty_class(path, name)
    return splits, sum(map(len, grouped["val"].values())) if held_out == "test" else 0


def _classes(path: str, splits: dict[str, _ByClass]) -> tuple[str, ...]:
    """The classes, sorted; those of `test` take the spelling of `train` if only the Unicode form differs."""
    spelling: dict[str, dict[str, str]] = {}
    for split, by_class in splits.items():
        spelling[split] = {}
        for name in sorted(by_class):
            same = spelling[split].setdefault(_composed(name), name)
            if same != name:
                raise causes.same_name(path, split, same, name)
    splits["test"] = {spelling["train"].get(_composed(name), name): images
                      for name, images in splits["test"].items()}  # fmt: skip
    train, test = set(splits["train"]), set(splits["test"])
    if train != test:
        raise causes.other_classes(path, train, test)
    if len(train) < 2:
        raise InputError(f"data.path={path} must hold 2 classes or more; got {min(train)} alone; add another")
    return tuple(sorted(train))


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _rounds(by_class: _ByClass, classes: tuple[str, ...]) -> list[tuple[int, int, str, Key]]:
    """(round, label, name, member that holds the bytes), sorted."""
    return sorted(
        (turn, label, image.name, image.key)
        for label, class_name in enumerate(classes)
        for turn, image in enumerate(sorted(by_class[class_name], key=lambda image: image.name))
    )
