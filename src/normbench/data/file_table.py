"""The files of a folder data set in the order of its images, kept on disk and small in memory.

A Python text per name would be copied into every process that decodes. Here all names are one piece.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normbench.data.decoded import About
from normbench.data.folder_index import FolderIndex
from normbench.data.raw import Labels
from normbench.data.shape import Shape
from normbench.files import write_atomically

SPLITS = ("train", "test")


class Names(NamedTuple):
    """Names of files, in one piece: `ends` says where each ends in `text`."""

    text: bytes
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, names: Sequence[str]) -> Names:
        pieces = [os.fsencode(name) for name in names]
        return cls(b"".join(pieces), np.cumsum([len(piece) for piece in pieces], dtype=np.int64))

    def at(self, number: int) -> str:
        """The name of a number, counted from 0."""
        start = int(self.ends[number - 1]) if number else 0
        return os.fsdecode(self.text[start : int(self.ends[number])])


class FileTable(NamedTuple):
    """What is known of a folder data set without its pixels; files and labels are by split."""

    about: About
    names: dict[str, Names]
    labels: dict[str, Labels]


def table_of(found: FolderIndex, about: About) -> FileTable:
    """The table of a directory that was looked through."""
    names = {split: [""] * count for split, count in found.counts.items()}
    labels = {split: np.zeros(count, np.int64) for split, count in found.counts.items()}
    for (name, _), places in found.places.items():
        for place in places:
            names[place.split][place.position] = name
            labels[place.split][place.position] = place.label
    return FileTable(about, {split: Names.of(each) for split, each in names.items()}, labels)


def load_about(file: Path | None) -> About | None:
    """Shape and note of the images; None if there is no whole table."""
    table = _read(file, names=False)
    return table and table.about


def load(file: Path | None) -> FileTable | None:
    """The table in a file; None if nothing readable is there."""
    return _read(file, names=True)


def save(file: Path | None, table: FileTable) -> None:
    """Write a table. If that is impossible, nothing is written: it only saves time."""
    if file is None:
        return
    tree = asdict(table.about.shape) | {"note": table.about.note}
    arrays: dict[str, NDArray[Any]] = {"about": np.frombuffer(json.dumps(tree).encode(), np.uint8)}
    for split in SPLITS:
        names = table.names[split]
        arrays[f"{split}_names"] = np.frombuffer(names.text, np.uint8)
        arrays[f"{split}_ends"], arrays[f"{split}_labels"] = names.ends, table.labels[split]

    def write(stream: BinaryIO) -> None:
        np.savez(stream, **arrays)  # type: ignore[arg-type]

    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, write)


def _read(file: Path | None, *, names: bool) -> FileTable | None:
    if file is None:
        return None
    try:
        with file.open("rb") as stream, np.load(stream) as arrays:  # a damaged file is closed, too
            tree = json.loads(arrays["about"].tobytes())
            about = About(note=str(tree.pop("note")), shape=Shape(**tree))
            if not names:
                return FileTable(about, {}, {})
            return FileTable(
                about,
                {s: Names(arrays[f"{s}_names"].tobytes(), arrays[f"{s}_ends"]) for s in SPLITS},
                {s: arrays[f"{s}_labels"] for s in SPLITS},
            )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, EOFError, zipfile.BadZipFile):
        return None
