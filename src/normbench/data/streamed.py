"""Images that are read when they are used. They stand in a `Dataset` in place of a tensor of all pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from normbench.data.read_ahead import PIECE, ReadAhead, Readers, reader_count
from normbench.data.stored_images import Request, Rows, StoredImages

#: Bytes of a block if all images are read one after the other. Sums over them take eight times as much.
BLOCK_BYTES = 8 << 20


@dataclass(frozen=True, eq=False)
class StreamedImages:
    """Some images of a split, in some order. An index chooses among them; `read` gives pixels.

    Attributes:
        stored:  the images of the whole split.
        rows:    numbers of these images there, (n,) int64.
        readers: processes that read ahead, see `read_ahead.reader_count`.
        crops:   smallest share of the area of a random resized crop in training; 0: training has none.
        device:  where pixels are wanted.
        change:  what becomes of pixels (n, C, H, W) on the device, given their `numbers`; None: nothing.
        numbers: (n,) int64, see `changed`.
    """

    stored: StoredImages
    rows: Rows
    readers: Readers
    crops: float = 0.0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    change: Callable[[Tensor, Tensor], Tensor] | None = None
    numbers: Rows | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> torch.Size:
        """(n, C, H, W)."""
        return torch.Size((len(self), *self.stored.shape))

    def __getitem__(self, index: Tensor | slice) -> StreamedImages:
        """Those that an index chooses: a slice, a mask, or (m,) int64. Nothing is read."""
        chosen = index if isinstance(index, slice) else index.cpu().numpy()
        numbers = None if self.numbers is None else self.numbers[chosen]
        return replace(self, rows=self.rows[chosen], numbers=numbers)

    def to(self, device: torch.device | str) -> StreamedImages:
        """The same images, whose pixels are wanted on a device."""
        return replace(self, device=torch.device(device))

    def changed(self, change: Callable[[Tensor, Tensor], Tensor]) -> StreamedImages:
        """The same images, changed after they are read. They are numbered from 0 in their order here."""
        return replace(self, change=change, numbers=np.arange(len(self)))

    def read(self) -> Tensor:
        """The pixels, (n, C, H, W) uint8, read by this process; no random crops.

        Raises:
            InputError: an image cannot be read.
        """
        return self.finished(self.stored.read(Request(self.rows)), slice(None))

    def in_turn(self) -> Callable[[slice], Tensor]:
        """A function that reads slices as `read` does. It reads ahead if one slice follows the other."""
        return _InTurn(self)

    def finished(self, pixels: Tensor, some: slice) -> Tensor:
        """Those pixels of `some` that were read, on the device and changed."""
        pixels = pixels.to(self.device)
        if self.change is None or self.numbers is None:
            return pixels
        return self.change(pixels, torch.from_numpy(self.numbers[some]).to(self.device))


class _InTurn:
    """Reads slices of streamed images."""

    def __init__(self, images: StreamedImages) -> None:
        self._images = images
        self._ahead: ReadAhead | None = None
        self._start = self._size = 0

    def __call__(self, some: slice) -> Tensor:
        images, rows = self._images, self._images.rows
        start, size = some.start, some.stop - some.start
        if len(rows) <= PIECE or reader_count(images.readers) == 0:
            return images[some].read()
        if self._ahead is None or size > self._size or (start - self._start) % self._size:
            self._start, self._size = start, size

            def block(number: int) -> Request | None:
                first = start + number * size
                return Request(rows[first : first + size]) if first < len(rows) else None

            self._ahead = ReadAhead(images.stored, images.readers, block)
        return images.finished(self._ahead((start - self._start) // self._size)[:size], some)


def pixels(images: Tensor | StreamedImages) -> Tensor:
    """The pixels of images, (n, C, H, W) uint8."""
    return images if isinstance(images, Tensor) else images.read()


def in_turn(images: Tensor | StreamedImages) -> Callable[[slice], Tensor]:
    """A function that gives the pixels of slices."""
    return images.__getitem__ if isinstance(images, Tensor) else images.in_turn()


def in_blocks(images: Tensor | StreamedImages) -> Iterator[Tensor]:
    """The pixels of all images, some at a time, in order."""
    read, size = in_turn(images), max(1, BLOCK_BYTES // images.shape[1:].numel())
    return (read(slice(start, start + size)) for start in range(0, len(images), size))
