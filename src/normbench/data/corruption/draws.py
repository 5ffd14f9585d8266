"""Random numbers of corruptions: they depend on image index and purpose alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from normbench import rng


class Draws:
    """Random numbers for n images; every call has new ones.

    Args:
        purpose: the corruption with its severity.
        images:  indices, (n,) int64.
    """

    def __init__(self, purpose: str, images: Tensor) -> None:
        self._keys = rng.lane_keys([0], f"corruption/{purpose}").to(images.device).expand(len(images))
        self._images, self._calls = images, 0

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Numbers in [low, high): (n, *shape) in fp64."""
        count = math.prod(shape)
        numbers = rng.uniform(self._keys, self._images, self._calls, count=count, dtype=torch.float64)
        self._calls += 1
        return (low + (high - low) * numbers).view(-1, *shape)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, (n, *shape) in fp64, by the inverse of their distribution function."""
        numbers: Tensor = torch.special.ndtri(self.uniform(*shape) + 2.0**-54)
        return numbers
