"""Where streamed images come from: rows of a decoded copy, or image files that are decoded at every use.

Both give the images of one split by number, fitted to the model. They are sent to reader processes, so they
hold names and places, and no pixels.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from normbench.data import image
from normbench.data.file_table import Names
from normbench.data.fit import fit
from normbench.data.folder_scan import unreadable
from normbench.data.members import read_file
from normbench.data.raw import Images
from normbench.data.resized_crop import Draws
from normbench.errors import InputError

Rows = NDArray[np.int64]


class Request(NamedTuple):
    """Images to read: their numbers in the split, and their random crops if they have some."""

    rows: Rows
    draws: Draws | None = None

    def some(self, images: slice) -> Request:
        """Some of them."""
        return Request(self.rows[images], self.draws and self.draws.some(images))


class StoredImages(ABC):
    """The images of one split.

    Args:
        channels: 1 or 3.
        stored:   side as decoded, in pixels.
        size:     side that the model wants; None: as decoded.
    """

    def __init__(self, channels: int, stored: int, size: int | None) -> None:
        self.channels, self.stored, self.size = channels, stored, size

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels and sides of an image as the model gets it."""
        side = self.size or self.stored
        return self.channels, side, side

    def read(self, wanted: Request) -> Tensor:
        """The images, (n, C, size, size) uint8 on the CPU.

        Raises:
            InputError: one of them cannot be read.
        """
        pixels = np.empty((len(wanted.rows), self.channels, self.stored, self.stored), np.uint8)
        self._fill(pixels, wanted)
        return fit(torch.from_numpy(pixels), self.size)

    @abstractmethod
    def _fill(self, pixels: Images, wanted: Request) -> None:
        """Write the images as decoded."""


class ImageFiles(StoredImages):
    """Files of a directory, decoded at every use.

    Args:
        path:   the directory.
        names:  of the files in it, in the order of the split.
        center: share of the shorter side that the middle square keeps.
    """

    def __init__(
        self, path: str, names: Names, center: float, channels: int, stored: int, size: int | None
    ) -> None:
        super().__init__(channels, stored, size)
        self.path, self.names, self.center = path, names, center

    def _fill(self, pixels: Images, wanted: Request) -> None:
        root = Path(self.path).expanduser()
        crops = [None] * len(pixels) if wanted.draws is None else wanted.draws.crops()
        with image.without_warnings():
            for number, (row, crop) in enumerate(zip(wanted.rows.tolist(), crops, strict=True)):
                name = self.names.at(row)
                try:
                    content = read_file(root, name, root / name)
                    pixels[number] = image.decode(content, self.channels, self.stored, self.center, crop)
                except Exception as error:  # an image decoder fed with damaged bytes may raise anything
                    raise unreadable(self.path, name, error) from None


class CopiedImages(StoredImages):
    """Rows of an array in a file of `data.decoded`. They are read, not mapped: what was read is not kept.

    Args:
        file: the array, (n, C, stored, stored) uint8.
    """

    def __init__(self, file: Path, channels: int, stored: int, size: int | None) -> None:
        super().__init__(channels, stored, size)
        self.file = file

    def _fill(self, pixels: Images, wanted: Request) -> None:
        assert wanted.draws is None, "crops are taken from image files"
        try:
            with self.file.open("rb") as opened:
                start = _header(opened)
                for number, row in enumerate(wanted.rows.tolist()):
                    opened.seek(start + row * pixels[number].nbytes)
                    if opened.readinto(pixels[number].data) != pixels[number].nbytes:
                        raise OSError(f"it ends before image {row}")
        except (OSError, ValueError) as error:
            raise InputError(
                f"cannot read the decoded images in {self.file} ({error}); remove the folder "
                f"{self.file.parent} and repeat the command: they are decoded again"
            ) from None


class ArrayWriter:
    """Writes an array of images to a file, some at a time and in any order. A context manager.

    Args:
        file:   a new one.
        images: n.
        image:  (C, side, side).
    """

    def __init__(self, file: Path, images: int, image: tuple[int, ...]) -> None:
        self._bytes = math.prod(image)
        self._file = file.open("xb")
        about = {"descr": "|u1", "fortran_order": False, "shape": (images, *image)}
        np.lib.format.write_array_header_1_0(self._file, about)
        self._start = self._file.tell()

    def __enter__(self) -> ArrayWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, first: int, pixels: Images) -> None:
        """Write images (n, C, side, side), or one of them, the first of which has the number `first`."""
        self._file.seek(self._start + first * self._bytes)
        self._file.write(np.ascontiguousarray(pixels).data)


def _header(opened: BinaryIO) -> int:
    """Where the first image begins."""
    np.lib.format.read_magic(opened)
    np.lib.format.read_array_header_1_0(opened)
    return opened.tell()
