"""Dynamic Tanh (key: dyt)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from normbench.norms.core import Affine, Norm
from normbench.norms.lanes import along_channels, spread
from normbench.norms.registry import register


@register("dyt", family="pointwise", reduces="nothing", reference="zhu2025")
class DynamicTanh(Norm):
    """Dynamic Tanh: squashes every value on its own, without statistics.

        y = γ tanh(α x) + β                                            §4

    Symbols:      α alpha · γ weight · β bias
    Reduces:      nothing.
    Train / eval: identical; no running state. Batch-independent: yes.
    Numerics:     fp32 (fp64 for fp64 input). |y − β| ≤ |γ| for every input.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias: (K·C,);  alpha: (K,), one per run

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        alpha:    initial α > 0. The paper: 0.5, and less in wide language models.
        affine:   True, False, "weight" or "bias".

    Raises:
        NormError: an argument out of range.

    Reference:  zhu2025 — Transformers without Normalization, CVPR 2025, arXiv:2503.10622, §4.
    Deviations: none. The paper replaces layer norm in transformers. It reports a loss of accuracy if DyT
                replaces batch norm in convolutional nets. α has the role of a scale: weight decay treats it
                as it treats γ, so optim.decay=all decays it and optim.decay=weights spares it.
    """

    roles: ClassVar[dict[str, str]] = {**Norm.roles, "alpha": "scale"}

    def __init__(self, channels: int, lanes: int = 1, *, alpha: float = 0.5, affine: Affine = True) -> None:
        super().__init__(channels, lanes, affine=affine)
        self.number("alpha", alpha, above=0)
        self.alpha = nn.Parameter(torch.full((lanes,), float(alpha)))

    def normalize(self, x: Tensor) -> Tensor:
        return self.scale_shift(torch.tanh(x * along_channels(spread(self.alpha, self.channels), x)))
