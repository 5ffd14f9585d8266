"""Generated images for speed measurements and tests: one random prototype per class plus noise.

    pixel = ⌊256 (prototype + 3 noise) / 4⌋        both uniform in [0, 1)

Not a benchmark: every network can separate the classes. Image i does not depend on the sizes of the splits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from normbench import rng
from normbench.data.raw import Images, Labels, Raw
from normbench.data.shape import Shape
from normbench.data.shapes import shape_of
from normbench.spec import DataSpec

_CHUNK = 256  # images generated at once: limits the memory of the 64-bit words behind the noise


def read(spec: DataSpec, cache: Path | None) -> Raw:
    """Both splits, with labels 0, 1, …, 0, 1, … in turn."""
    shape = shape_of(spec)
    pixels = shape.channels * shape.size**2
    prototypes = rng.uniform(rng.lane_keys(range(shape.classes), "synthetic/prototype"), count=pixels)
    return Raw(
        *_split("train", shape.train_images + shape.valid_images, prototypes, shape),
        *_split("test", shape.test_images, prototypes, shape),
    )


def _split(split: str, images: int, prototypes: torch.Tensor, shape: Shape) -> tuple[Images, Labels]:
    labels = torch.arange(images) % shape.classes
    pixels = np.empty((images, prototypes.shape[1]), np.uint8)
    key = rng.lane_keys([0], f"synthetic/{split}")
    for start in range(0, images, _CHUNK):
        here = torch.arange(start, min(start + _CHUNK, images))
        noise = rng.uniform(key.expand(len(here)), here, count=prototypes.shape[1])
        pixels[start : start + _CHUNK] = ((prototypes[labels[here]] + 3 * noise) * 64).byte().numpy()
    return pixels.reshape(images, shape.channels, shape.size, shape.size), labels.numpy()
