"""How many test images a network classifies at a time, and what happens if memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from normbench import models
from normbench.data.shape import Shape
from normbench.engine.free_memory import free_bytes
from normbench.spec import RunSpec

T = TypeVar("T")

#: Images at a time on a CPU, summed over all lanes. PERF: their activations must stay in its cache
#: (docs/LOG.md).
CPU_IMAGES = 256
#: Most images at a time on a GPU, summed over all lanes. PERF: more do not make it faster.
GPU_IMAGES = 8192
#: Evaluation may take this share of the free memory of a GPU.
SHARE = 0.5


def images_in_flight(spec: RunSpec, image: Shape, lanes: int, device: torch.device) -> int:
    """Images per lane that are classified at a time.

    On a GPU it is a power of two, so that small differences of the free memory do not change it. The bytes
    of an image count all of its activations, which is more than evaluation holds at a time.

    Args:
        spec:   the settings that the lanes share.
        image:  channels, size and classes of the network's input.
        lanes:  K.
        device: of the network.
    """
    if device.type == "cpu":
        return max(1, CPU_IMAGES // lanes)
    fitting = int(SHARE * free_bytes(device)) // models.image_footprint(spec, image)
    return 1 << (max(1, min(GPU_IMAGES, fitting) // lanes).bit_length() - 1)


def in_pieces(count: int, size: int, unit: int, work: Callable[[slice], T]) -> Iterator[T]:
    """Do work on `count` images, some at a time, and return what it returns for each piece.

    If memory runs out, this piece and all later ones have half as many images.

    Args:
        count: images, a multiple of `unit`.
        size:  images of a piece, a multiple of `unit`; the last piece may have fewer.
        unit:  images that cannot be separated.
        work:  gets the images of a piece.

    Raises:
        torch.OutOfMemoryError: memory does not suffice for one unit.
    """
    start = 0
    while start < count:
        piece = slice(start, min(start + size, count))
        done = _done(work, piece, last_chance=size <= unit)
        if done is None:
            size = max(unit, size // 2 // unit * unit)
            torch.cuda.empty_cache()
            continue
        yield done
        start = piece.stop


def _done(work: Callable[[slice], T], piece: slice, *, last_chance: bool) -> T | None:
    """What the work returns; None if memory runs out. Here the exception ends, and with it its tensors."""
    try:
        return work(piece)
    except torch.OutOfMemoryError:
        if last_chance:
            raise
        return None
