"""No normalization, the control (key: none)."""

from __future__ import annotations

from torch import Tensor

from normbench.norms.core import Norm
from normbench.norms.registry import register


@register("none", family="pointwise", reduces="nothing", reference="he2015")
class NoNorm(Norm):
    """No normalization: the control for every method.

        y = x

    Reduces:      nothing.
    Train / eval: identical; no running state. Batch-independent: yes.
    Numerics:     exact in any dtype.

    Shape:
        x: (N, K·C, *spatial) → y: x itself

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.

    Raises:
        NormError: channels or lanes below 1.

    Reference:  he2015 — Delving Deep into Rectifiers, ICCV 2015, arXiv:1502.01852, §2.2: the initialisation
                that lets deep networks train without normalization.
    """

    def __init__(self, channels: int, lanes: int = 1) -> None:
        super().__init__(channels, lanes)

    def forward(self, x: Tensor) -> Tensor:
        return x
