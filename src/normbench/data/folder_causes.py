"""Why a folder data set is refused, and what of it is not used: the words for both."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from normbench.data.folder_names import SPLITS, SUFFIXES
from normbench.data.folder_scan import Scan
from normbench.data.image import Look
from normbench.data.members import printable
from normbench.errors import InputError

_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
#: What other programs call the splits.
_OTHER_NAMES = {
    "training": "train", "trainset": "train", "testing": "test", "testset": "test", "eval": "test",
    "evaluation": "test", "valid": "val", "validation": "val", "validate": "val", "dev": "val",
}  # fmt: skip


def no_images(path: str, split: str, found: Scan) -> InputError:
    """A split has no images: say what was found instead."""
    return InputError(
        f"data.path={path} must hold images as train/<class>/* and test/<class>/* or val/<class>/*, but has "
        f"none for the {split} split; {_cause(path, found)}"
    )


def _cause(path: str, found: Scan) -> str:
    for name in found.outside:
        parts = name.split("/")
        for depth, part in enumerate(parts[:-1]):
            plain = part.strip().lower()
            wanted = _OTHER_NAMES.get(plain, plain)
            if wanted in SPLITS and part not in SPLITS:
                read = ", ".join(SPLITS)
                return f"folders named {read} are read, not {printable(part)}/: rename it to {wanted}/"
            if part in SPLITS and depth > 1:
                inside = printable("/".join(parts[:depth]))
                if Path(path).expanduser().is_dir():
                    return f"{part}/ is too deep inside; add /{inside} to data.path"
                return f"{part}/ is too deep inside; pack the archive again from the folder {inside}"
            if part in SPLITS and depth == len(parts) - 2:
                return f"{printable(name)} is in no class folder: move it into one"
        if "\\" in name:
            return f"{printable(name)} has backslashes in its name: pack the archive again with slashes"
    if found.outside:
        first = printable(found.outside[0])
        return f"folders named {', '.join(SPLITS)} are read, but there is {first}: arrange the images so"
    for name in found.others:
        if name.lower().endswith(_ARCHIVES):
            return f"there is an archive inside, {printable(name)}: unpack it, or give it as data.path"
    if found.others and not found.images:
        first, suffixes = printable(found.others[0]), ", ".join(sorted(SUFFIXES))
        return f"files with the suffixes {suffixes} are read, but there is {first}: convert the images"
    return "arrange them so"


def empty_class(path: str, folder: str) -> InputError:
    """A class folder without an image."""
    return InputError(
        f"every class folder of data.path={path} must hold images; {printable(folder)} has none with the "
        f"suffix {', '.join(sorted(SUFFIXES))}; add some or remove the folder"
    )


def same_name(path: str, split: str, one: str, other: str) -> InputError:
    """Two class folders that look the same."""
    return InputError(
        f"class folders of data.path={path} must have different names; two folders of {split} are called "
        f"{one} and differ only in Unicode normalization ({one!a}, {other!a}); join or rename them"
    )


def other_classes(path: str, train: set[str], test: set[str]) -> InputError:
    """The splits do not have the same classes."""
    name = min(train ^ test)
    own, others = (train, test) if name in train else (test, train)
    near = [each for each in sorted(others - own) if _loosely(each) == _loosely(name)]
    remedy = (
        f"the other split has {printable(near[0])}, which differs in case, spaces or Unicode form: rename one"
        if near
        else "add or remove its images"
    )
    return InputError(
        f"train and test of data.path={path} must have the same classes; {printable(name)} is only in "
        f"{'train' if own is train else 'test'} ({len(train ^ test)} differ); {remedy}"
    )


def notes(looks: Sequence[Look], unused_val: int, found: Scan) -> Iterator[str]:
    """What was not used or not applied, for the record."""
    if animated := sum(each.animated for each in looks):
        yield f"first frame of {animated} animated {_images(animated)}"
    if turned := sum(each.turned for each in looks):
        yield f"EXIF orientation of {turned} {_images(turned)} not applied"
    if unused_val:
        yield f"{unused_val} {_images(unused_val)} in val/ not used"
    if outside := len(found.outside):
        yield f"{outside} {_images(outside)} outside class folders of train/, test/ and val/ not used"


def _images(count: int) -> str:
    return "image" if count == 1 else "images"


def _loosely(name: str) -> str:
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())
