"""Data sets as two resident uint8 splits; this module never imports torch by itself.

    shape_of(spec)   what a data set is, from constants or file names: for the planner
    load(spec)       its pixels fitted to a model's side, with their mean and deviation: for the engine

A source is one module with `read(spec, cache) -> Raw`, entered in `shapes.SOURCES`.
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


def load(spec: DataSpec, *, size: int | None = None, cache: Path | None = None) -> Dataset:
    """Read a data set into CPU memory.

    Args:
        spec:  which data, how many images of each split.
        size:  side in pixels that the model wants; None leaves the images as they are.
        cache: the results' cache folder, where decoded image folders are kept in `data/`; None: nowhere.

    Raises:
        InputError: an unknown name, files that are absent or damaged, more images asked for than there are.
    """
    from normbench.data.dataset import assemble

    return assemble(spec, size, cache)
