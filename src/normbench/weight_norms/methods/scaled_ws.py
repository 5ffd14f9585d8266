"""Scaled weight standardization (key: scaled_ws)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from normbench.weight_norms.core import WeightNorm, filters, register


@register("scaled_ws", reference="brock2021", on_head=False, scale="gain")
class ScaledWeightStandardization(WeightNorm):
    """Scaled weight standardization: filters have mean 0 and length g; meant for nets without norms.

        w = g (v − μ) / √max(n σ², ε)
        μ, σ² over 𝒮 = {same filter} × Cin × kernel

    Symbols:      v the weight that is stored · g gain · μ mean · σ² var (biased) · n fan-in, the values of a
                  filter
    Reduces:      (Cin, *kernel) for each filter.
    Train / eval: identical; no running state.
    Numerics:     fp32 (fp64 for an fp64 weight). ε acts only if n σ² < ε.

    Shape:
        weight: (K·Cout, Cin, *kernel) or (K, Cout, Cin) → same shape and dtype
        gain: (K·Cout,), starts at 1

    Args:
        weight: the initial v.
        lanes:  K, stacked runs.
        eps:    ε > 0, the lower bound of n σ².

    Raises:
        NormError: filters of a single value, which standardization maps to 0, or ε out of range.

    Reference:  brock2021 — Characterizing Signal Propagation to Close the Performance Gap in Unnormalized
                ResNets, ICLR 2021, arXiv:2101.08692.
    Code:       google-deepmind/deepmind-research, nfnets/base.py, WSConv2D, for g and ε.
    Deviations: the map alone. NF-ResNets also multiply every activation by a constant (√(2 / (1 − 1/π)) for
                ReLU) and divide the input of every residual branch by its predicted deviation. Instead,
                `model.init=lsuv` here sets g from data, and `model.branch=skipinit` damps the branches. timm
                adds its ε to σ² instead of bounding n σ². As in NFNets, not applied to the classifier.
    """

    roles: ClassVar[dict[str, str]] = {"gain": "scale"}

    def __init__(self, weight: Tensor, lanes: int = 1, eps: float = 1e-4) -> None:
        super().__init__(weight, lanes)
        self.need_several(weight)
        self.eps = self.positive(eps)
        self.gain = nn.Parameter(torch.ones_like(filters(weight.detach())[:, 0]))

    def normalize(self, filters: Tensor) -> Tensor:
        centred = filters - filters.mean(1, keepdim=True)
        lengths: Tensor = torch.linalg.vector_norm(centred, dim=1)  # √(n σ²)
        return centred * (self.gain / lengths.clamp_min(self.eps**0.5)).unsqueeze(1)

    def extra_repr(self) -> str:
        return f"eps={self.eps:g}"
