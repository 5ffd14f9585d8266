"""Moments of the values of every channel, over all batches of a pass."""

from __future__ import annotations

import torch
from torch import Tensor


class Moments:
    """Mean and central moments by channel, up to the fourth.

    NUMERICS: powers of the distance to the first batch's mean; sums over batches in fp64.

    Args:
        lanes: K.
        order: 2 or 4, the highest moment.
    """

    def __init__(self, lanes: int, order: int = 2) -> None:
        self.lanes, self.order = lanes, order
        self._values = 0
        self._shift = self._sums = torch.zeros(0)

    def __call__(self, x: Tensor) -> None:
        """Take in x: (N, K·C, *spatial)."""
        axes = (0, *range(2, x.dim()))
        if self._values == 0:
            self._shift = x.mean(axes, keepdim=True)
            self._sums = torch.zeros(self.order, x.shape[1], dtype=torch.float64, device=x.device)
        distance = x - self._shift
        square = distance * distance
        sums = [distance.sum(axes), square.sum(axes)]
        if self.order == 4:  # PERF: in place, new memory takes longer than the products
            sums += [distance.mul_(square).sum(axes), square.mul_(square).sum(axes)]
        self._sums += torch.stack(sums).double()
        self._values += x.numel() // x.shape[1]

    def mean(self) -> Tensor:
        """(K, C) in fp64."""
        return self._by_lane(self._shift.flatten().double() + self._raw()[0])

    def var(self) -> Tensor:
        """Biased variance, (K, C) in fp64."""
        first, second, *_ = self._raw()
        return self._by_lane((second - first.square()).clamp(min=0))

    def fourth(self) -> Tensor:
        """Fourth central moment, (K, C) in fp64."""
        a, b, c, d = self._raw()
        return self._by_lane(d - 4 * a * c + 6 * a.square() * b - 3 * a**4)

    def _by_lane(self, values: Tensor) -> Tensor:
        return values.view(self.lanes, -1)

    def _raw(self) -> Tensor:
        return self._sums / self._values
