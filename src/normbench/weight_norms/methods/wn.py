"""Weight normalization (key: wn)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from normbench.errors import NormError
from normbench.weight_norms.core import WeightNorm, filters, register


@register("wn", reference="salimans2016", on_head=True, scale="gain")
class WeightNormalization(WeightNorm):
    """Weight normalization: length and direction of a filter are learned separately.

        w = g v / ‖v‖                                                  eq. (2)

    Symbols:      v the weight that is stored · g gain · ‖·‖ Euclidean length of a filter
    Reduces:      (Cin, *kernel) for each filter.
    Train / eval: identical; no running state.
    Numerics:     fp32 (fp64 for an fp64 weight). No ε: a filter that becomes exactly 0 in training gives
                  NaN.

    Shape:
        weight: (K·Cout, Cin, *kernel) or (K, Cout, Cin) → same shape and dtype
        gain: (K·Cout,)

    Args:
        weight: the initial v; g starts as ‖v‖, so that the effective weight starts as v.
        lanes:  K, stacked runs.

    Raises:
        NormError: an initial filter of length 0, which has no direction.

    Reference:  salimans2016 — Weight Normalization, NeurIPS 2016, arXiv:1602.07868, §2.
    Deviations: no data-dependent initialisation of g and b (§3).
    """

    roles: ClassVar[dict[str, str]] = {"gain": "scale"}

    def __init__(self, weight: Tensor, lanes: int = 1) -> None:
        super().__init__(weight, lanes)
        lengths = filters(weight.detach()).norm(dim=1)
        empty = 0 if lengths.is_meta else int((lengths == 0).sum())
        if empty:
            raise NormError(
                f"wn: every filter must have a length > 0, or it has no direction; {empty} of {len(lengths)} "
                "are all zero. Initialise them otherwise, or use the map none"
            )
        self.gain = nn.Parameter(lengths)

    def normalize(self, filters: Tensor) -> Tensor:
        lengths: Tensor = torch.linalg.vector_norm(filters, dim=1)
        return filters * (self.gain / lengths).unsqueeze(1)
