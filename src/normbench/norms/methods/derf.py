"""Dynamic erf (key: derf)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from normbench.norms.core import Affine, Norm
from normbench.norms.lanes import along_channels, spread
from normbench.norms.registry import register


@register("derf", family="pointwise", reduces="nothing", reference="chen2025")
class DynamicErf(Norm):
    """Dynamic erf: squashes every value on its own by the error function, without statistics.

        y = γ erf(α x + s) + β

    Symbols:      α alpha · s shift · γ weight · β bias
    Reduces:      nothing.
    Train / eval: identical; no running state. Batch-independent: yes.
    Numerics:     fp32 (fp64 for fp64 input). |y − β| ≤ |γ| for every input.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias: (K·C,);  alpha, shift: (K,), one of each per run

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        alpha:    initial α > 0. The authors' code: 0.5.
        shift:    initial s. The authors' code: 0.
        affine:   True, False, "weight" or "bias".

    Raises:
        NormError: an argument out of range.

    Reference:  chen2025 — Stronger Normalization-Free Transformers, arXiv:2512.10938.
    Code:       zlab-princeton/Derf, ViT/dynamic_erf.py.
    Deviations: none. The paper replaces layer norm in transformers, as dyt does. α has the role of a scale
                and s that of a shift: weight decay treats them as it treats γ and β.
    """

    roles: ClassVar[dict[str, str]] = {**Norm.roles, "alpha": "scale", "shift": "shift"}

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        alpha: float = 0.5,
        shift: float = 0.0,
        affine: Affine = True,
    ) -> None:
        super().__init__(channels, lanes, affine=affine)
        self.number("alpha", alpha, above=0)
        self.number("shift", shift)
        self.alpha = nn.Parameter(torch.full((lanes,), float(alpha)))
        self.shift = nn.Parameter(torch.full((lanes,), float(shift)))

    def normalize(self, x: Tensor) -> Tensor:
        alpha, shift = (along_channels(spread(p, self.channels), x) for p in (self.alpha, self.shift))
        return self.scale_shift(torch.erf(x * alpha + shift))
