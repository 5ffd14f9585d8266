"""What the name of a file says in a folder data set: its split, its class, and whether it is an image."""

from __future__ import annotations

from typing import NamedTuple

from normbench.data.walk import hidden

#: Folder names that are read as splits. `val` is used if there is no `test`.
SPLITS = ("train", "test", "val")
#: File name suffixes that are read as images.
SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)


class Position(NamedTuple):
    """The parts of a name: [top/]split/class/rest. `class_name` is "" for the split folder itself."""

    top: str
    split: str
    class_name: str
    rest: str  # "" for the class folder itself


def position(name: str) -> Position | None:
    """The position of a file or folder; None if it is hidden or in no split.

    >>> position("set/train/cat/a/0.png")
    Position(top='set', split='train', class_name='cat', rest='a/0.png')
    >>> position("train/.thumbs/0.png") is None
    True
    """
    parts = name.split("/")
    if any(map(hidden, parts)):
        return None
    for depth in (0, 1):
        if len(parts) > depth and parts[depth] in SPLITS:
            class_name, rest = [*parts[depth + 1 : depth + 2], ""][0], "/".join(parts[depth + 2 :])
            return Position("/".join(parts[:depth]), parts[depth], class_name, rest)
    return None


def is_image(name: str) -> bool:
    """Whether the suffix is one that is read as an image.

    >>> is_image("train/cat/0.JPG"), is_image("train/cat/labels.txt")
    (True, False)
    """
    stem, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return bool(stem) and dot + suffix.lower() in SUFFIXES
