"""A norm layer for inputs whose channels are the last axis, as in transformers."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor, nn

from normbench.norms.core import Norm


class LastAxis(nn.Module):
    """Calls a norm layer with the last axis of the input moved to axis 1, and moves it back.

    The axes between are positions for the norm: tokens, rows or columns. The first axis must be the images.

    Shape:
        x: (N, *spatial, K·C) → y: same shape and dtype

    Args:
        norm: any layer of this package.
    """

    #: NaN, which equals nothing. torch's encoder layer runs a fused layer norm if the ε of its two norms
    #: are equal; it does not check what these norms are.
    eps: ClassVar[float] = math.nan

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(x.movedim(-1, 1))
        return y.movedim(1, -1)
