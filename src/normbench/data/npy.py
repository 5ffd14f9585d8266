"""Arrays in .npy files. A file of another kind is refused, and nothing is ever unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def load(file: Path, *, mapped: bool = True) -> NDArray[Any]:
    """The array in a file.

    Args:
        mapped: map the file into memory; writes to the array do not reach it.

    Raises:
        ValueError: it is no .npy file, or it holds Python objects.
        OSError: it cannot be read.
        EOFError: it is empty.
    """
    found = np.load(file, mmap_mode="c" if mapped else None, allow_pickle=False)
    if not isinstance(found, np.ndarray):  # of a zip, numpy makes an archive
        found.close()
        raise ValueError(f"{file} is no .npy file")
    return found
