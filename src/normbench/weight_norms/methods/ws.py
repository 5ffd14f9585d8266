"""Weight standardization (key: ws)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from normbench.weight_norms.core import WeightNorm, register


@register("ws", reference="qiao2019", on_head=False, scale="fixed")
class WeightStandardization(WeightNorm):
    """Weight standardization: filters have mean 0 and variance 1; meant for layers before a norm.

        w = (v − μ) / √(σ² + ε)
        μ, σ² over 𝒮 = {same filter} × Cin × kernel

    Symbols:      v the weight that is stored · μ mean · σ² var (biased)
    Reduces:      (Cin, *kernel) for each filter.
    Train / eval: identical; no running state, no parameters.
    Numerics:     fp32 (fp64 for an fp64 weight); ε inside the root.

    Shape:
        weight: (K·Cout, Cin, *kernel) or (K, Cout, Cin) → same shape and dtype

    Args:
        weight: the initial v.
        lanes:  K, stacked runs.
        eps:    ε > 0.

    Raises:
        NormError: filters of a single value, which standardization maps to 0, or ε out of range.

    Reference:  qiao2019 — Micro-Batch Training with Batch-Channel Normalization and Weight Standardization,
                arXiv:1903.10520.
    Deviations: σ² is biased and ε is inside the root, as in timm. The authors' codes divide by n − 1, and
                one adds ε to σ. Not applied to the classifier, whose output would grow with √fan_in.
    """

    def __init__(self, weight: Tensor, lanes: int = 1, eps: float = 1e-5) -> None:
        super().__init__(weight, lanes)
        self.need_several(weight)
        self.eps = self.positive(eps)

    def normalize(self, filters: Tensor) -> Tensor:
        rows = filters.unsqueeze(
            0
        )  # filters as channels, so that torch's batch norm kernel standardizes them
        return F.batch_norm(rows, None, None, training=True, eps=self.eps).squeeze(0)

    def extra_repr(self) -> str:
        return f"eps={self.eps:g}"
