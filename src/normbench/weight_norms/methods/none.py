"""The weight as it is (key: none)."""

from __future__ import annotations

from torch import Tensor

from normbench.weight_norms.core import WeightNorm, register


@register("none", reference="he2015", on_head=True, scale="weight")
class NoWeightNorm(WeightNorm):
    """No map: the layer uses the weight that is trained.

        w = v

    Shape:
        weight: (K·Cout, Cin, *kernel) or (K, Cout, Cin) → the weight itself

    Args:
        weight: the initial weight.
        lanes:  K, stacked runs.

    Raises:
        NormError: the weight is no stacked weight of that many lanes.

    Reference:  he2015 — Delving Deep into Rectifiers, ICCV 2015, arXiv:1502.01852, §2.2: the initialisation
                used.
    """

    def forward(self, weight: Tensor) -> Tensor:
        return weight
