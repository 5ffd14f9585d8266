"""Reads blocks of images ahead of their use, in reader processes.

The blocks of a consumer come one after the other: the steps of a training, or the pieces of a split. Readers
(the workers of a torch DataLoader) decode pieces of them and send bytes through pipes, because containers
have little shared memory. What is read does not depend on the number of readers. A block out of turn is
found, too: the readers begin again there.

At most 2 · readers · PIECE images wait to be used.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from normbench.data.raw import Images
from normbench.data.stored_images import Request, StoredImages
from normbench.ranks import launched

#: Most images that a reader decodes at a time.
PIECE = 32
#: Most readers if `data.readers` is auto.
MOST = 16

Readers = int | Literal["auto"]
#: The images of a block by its number; None behind the last one.
Blocks = Callable[[int], Request | None]


def reader_count(asked: Readers) -> int:
    """Reader processes of this process: as asked, or one per core but one for auto.

    A worker process of a sweep cannot have any. It may get its data from another process, so ask where images
    are read.
    """
    if multiprocessing.current_process().daemon:
        return 0
    if isinstance(asked, int):
        return asked
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST, usable // launched().beside - 1) if usable > launched().beside else 0


class ReadAhead:
    """The blocks of one consumer.

    Args:
        images:  to read.
        readers: as `reader_count` takes it; 0: this process reads a block when it is asked for.
        blocks:  what belongs to each block.
    """

    def __init__(self, images: StoredImages, readers: Readers, blocks: Blocks) -> None:
        self._images, self._readers, self._blocks = images, reader_count(readers), blocks
        self._arriving: Iterator[Images | Exception] | None = None
        self._next = -1

    def __call__(self, block: int) -> Tensor:
        """The images of a block, (n, C, H, W) uint8 on the CPU.

        Raises:
            InputError: an image cannot be read.
        """
        wanted = self._blocks(block)
        assert wanted is not None, f"there is no block {block}"
        if self._readers == 0:
            return self._images.read(wanted)
        if self._arriving is None or block != self._next:
            self.close()
            self._arriving = self._start(block)
        self._next = block + 1
        found = [self._piece() for _ in _pieces(wanted)]
        return found[0] if len(found) == 1 else torch.cat(found)

    def close(self) -> None:
        """End the readers. Later calls start new ones."""
        self._arriving = None

    def _piece(self) -> Tensor:
        assert self._arriving is not None
        found = next(self._arriving)
        if isinstance(found, Exception):
            self.close()
            raise found
        return torch.from_numpy(found)

    def _start(self, first: int) -> Iterator[Images | Exception]:
        loader = DataLoader(
            _Reading(self._images), sampler=_Order(self._blocks, first), batch_size=None,
            num_workers=self._readers, prefetch_factor=2, collate_fn=_unchanged,
            generator=torch.Generator(),  # else torch draws from its global one
            multiprocessing_context="fork" if sys.platform == "linux" else "spawn",
        )  # fmt: skip
        with warnings.catch_warnings():
            # Python 3.12 warns of threads in this process; a reader uses none of them
            warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
            # more readers than cores are what the user asked for
            warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
            return iter(loader)


class _Reading(Dataset[Any]):
    """Answers a request with pixels, or with the error: an error that is raised would lose its one line."""

    def __init__(self, images: StoredImages) -> None:
        self.images = images

    def __getitem__(self, wanted: Request) -> Images | Exception:
        try:
            pixels: Images = self.images.read(wanted).numpy()
            return pixels
        except Exception as error:
            return error


class _Order:
    """The pieces of all blocks from `first` on, in order."""

    def __init__(self, blocks: Blocks, first: int) -> None:
        self._blocks, self._first = blocks, first

    def __iter__(self) -> Iterator[Request]:
        block = self._first
        while (wanted := self._blocks(block)) is not None:
            for piece in _pieces(wanted):
                yield wanted.some(piece)
            block += 1


def _pieces(wanted: Request) -> list[slice]:
    return [slice(start, start + PIECE) for start in range(0, len(wanted.rows), PIECE)]


def _unchanged(pixels: Any) -> Any:
    return pixels
