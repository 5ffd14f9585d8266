"""LeCun's idx format: two zeros, 8 for uint8, the number of axes, each length in four bytes, the numbers.

Checked before it is read: a file must be exactly as long as its header says, and contents must be possible.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: A split with a larger share of images of one single grey is taken for damaged: blocks that were never
#: written read as zeros.
MOST_BLANK = 0.01
#: A split in which one label has a larger share is taken for damaged, for the same reason.
MOST_ONE_LABEL = 0.9


def shape(file: Path) -> tuple[int, ...]:
    """The lengths of the axes that the header gives.

    Raises:
        ValueError: no idx file of uint8, or one of another length than its header says.
    """
    with file.open("rb") as stream:
        head = stream.read(4)
        axes = head[3] if len(head) == 4 and head[:3] == b"\0\0\x08" else 0
        lengths = stream.read(4 * axes)
    if not axes or len(lengths) < 4 * axes:
        raise ValueError(f"{file.name} does not begin with an idx header")
    found = tuple(int.from_bytes(lengths[i : i + 4], "big") for i in range(0, 4 * axes, 4))
    wanted, held = 4 + 4 * axes + math.prod(found), file.stat().st_size
    if wanted != held:
        raise ValueError(f"{file.name} must have {wanted} bytes by its header; it has {held}")
    return found


def read(file: Path) -> NDArray[np.uint8]:
    """The numbers of a file, uint8.

    Raises:
        ValueError: see `shape`.
    """
    import numpy as np

    lengths = shape(file)
    return np.fromfile(file, np.uint8, offset=4 + 4 * len(lengths)).reshape(lengths)


def check_split(folder: Path, split: str, images: tuple[int, ...], classes: int) -> None:
    """Check the images and labels of one split of MNIST's layout.

    Args:
        folder:  holds `<split>-images-idx3-ubyte` and `<split>-labels-idx1-ubyte`.
        split:   train | t10k.
        images:  (n, H, W) that the split must have.
        classes: labels must be 0 … classes − 1.

    Raises:
        ValueError: the first check that fails, with the file's name.
    """
    import numpy as np

    image_file, label_file = folder / f"{split}-images-idx3-ubyte", folder / f"{split}-labels-idx1-ubyte"
    for file, wanted in ((image_file, images), (label_file, images[:1])):
        if (found := shape(file)) != wanted:
            raise ValueError(f"{file.name} must hold {_axes(wanted)} numbers; it holds {_axes(found)}")
    labels, pixels = read(label_file), read(image_file)
    if labels.max() >= classes:
        position = int(labels.argmax())
        raise ValueError(
            f"labels must be 0 … {classes - 1}; label {position} of {label_file.name} is {labels[position]}"
        )
    share = np.bincount(labels).max() / len(labels)
    if share > MOST_ONE_LABEL:
        raise ValueError(f"{share:.1%} of the labels in {label_file.name} are equal")
    flat = pixels.reshape(len(pixels), -1)
    blank = float((flat == flat[:, :1]).all(1).mean())
    if blank > MOST_BLANK:
        raise ValueError(f"{blank:.1%} of the images in {image_file.name} are blank")


def _axes(lengths: tuple[int, ...]) -> str:
    return "×".join(map(str, lengths))
