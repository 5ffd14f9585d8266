"""A norm layer where channels are the last axis, as in transformers."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor, nn

from normbench.norms.core import Norm


class LastAxis(nn.Module):
    """Shows a norm layer its input with the last axis as axis 1.

    What lies between them are positions to the norm: tokens, rows and columns. The first axis must be the
    images.

    Shape:
        x: (N, *spatial, K·C) → y: same shape and dtype

    Args:
        norm: any layer of this package.
    """

    #: Equal to nothing: torch's encoder layer runs layer norm in a fused kernel of its own where the ε of its
    #: norms agree, without asking what these norms are.
    eps: ClassVar[float] = math.nan

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(x.movedim(-1, 1))
        return y.movedim(1, -1)
