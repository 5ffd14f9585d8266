"""A learned scale and shift without statistics, the second control (key: affine)."""

from __future__ import annotations

from torch import Tensor

from normbench.norms.core import Affine, Norm
from normbench.norms.registry import register


@register("affine", family="pointwise", reduces="nothing", reference="ioffe2015")
class AffineOnly(Norm):
    """Scale and shift alone: a control that separates the effect of γ and β from that of normalization.

        y = γ x + β

    Symbols:      γ weight · β bias
    Reduces:      nothing.
    Train / eval: identical; no running state. Batch-independent: yes.
    Numerics:     fp32 (fp64 for fp64 input).

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias: (K·C,)

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        affine:   True, False, "weight" or "bias".

    Raises:
        NormError: an argument out of range.

    Reference:  ioffe2015 — Batch Normalization, ICML 2015, arXiv:1502.03167, §3: its scale and shift.
    Deviations: the paper never uses them alone; this is a control.
    """

    def __init__(self, channels: int, lanes: int = 1, *, affine: Affine = True) -> None:
        super().__init__(channels, lanes, affine=affine)

    def normalize(self, x: Tensor) -> Tensor:
        return self.scale_shift(x)
