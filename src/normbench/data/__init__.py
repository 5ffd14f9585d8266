"""Data sets as two uint8 splits, in memory or streamed. Importing this module does not import torch.

    shape_of(spec)   channels, side, classes and image counts, without decoding pixels: for the planner
    load(spec)       the pixels at the side that a model wants, with their mean and deviation: for the engine

A source is one module with `read(spec, cache) -> Raw`, listed in `shapes.SOURCES`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from normbench.data.shape import Shape
from normbench.data.shapes import shape_of

if TYPE_CHECKING:
    from normbench.data.dataset import Dataset
    from normbench.spec import DataSpec

__all__ = ["Shape", "load", "shape_of"]


def load(
    spec: DataSpec, *, size: int | None = None, cache: Path | None = None, free: int | None = None
) -> Dataset:
    """Read a data set into CPU memory. A folder that is too large for it is streamed, see `data.streaming`.

    Args:
        spec:  the data set and the number of images of each split.
        size:  side in pixels that the model wants; None leaves the images as they are.
        cache: the cache folder of the results. Decoded images are kept in its `data/`. None keeps nothing.
        free:  bytes that are free on the device of the training; None: it is the CPU.

    Raises:
        InputError: the name is unknown, files are missing or damaged, or more images are wanted than exist.
    """
    from normbench.data.dataset import assemble

    return assemble(spec, size, cache, free)
