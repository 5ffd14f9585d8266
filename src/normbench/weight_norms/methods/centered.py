"""Centred weights (key: centered)."""

from __future__ import annotations

from torch import Tensor

from normbench.weight_norms.core import WeightNorm, register


@register("centered", reference="huang2017", on_head=False, scale="weight")
class CenteredWeights(WeightNorm):
    """Centred weights: the mean of every filter is subtracted; its length is not normalized.

        w = v − μ
        μ over 𝒮 = {same filter} × Cin × kernel

    Symbols:      v the weight that is stored · μ mean
    Reduces:      (Cin, *kernel) for each filter.
    Train / eval: identical; no running state, no parameters.
    Numerics:     fp32 (fp64 for an fp64 weight).

    Shape:
        weight: (K·Cout, Cin, *kernel) or (K, Cout, Cin) → same shape and dtype

    Args:
        weight: the initial v.
        lanes:  K, stacked runs.

    Raises:
        NormError: filters of a single value, which centring maps to 0.

    Reference:  huang2017 — Centered Weight Normalization in Accelerating Training of Deep Neural Networks,
                ICCV 2017.
    Deviations: the centring alone; the paper then divides by the length and learns a gain. Moving average
                batch normalization (yan2020) uses this map, under the name weight centralization. As in its
                networks, it is not applied to the classifier.
    """

    def __init__(self, weight: Tensor, lanes: int = 1) -> None:
        super().__init__(weight, lanes)
        self.need_several(weight)

    def normalize(self, filters: Tensor) -> Tensor:
        return filters - filters.mean(1, keepdim=True)
