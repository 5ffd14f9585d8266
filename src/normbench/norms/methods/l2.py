"""Unit normalization over channels (key: l2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from normbench.norms.core import Affine, Norm
from normbench.norms.lanes import PerLane, over_channels
from normbench.norms.registry import register


@register("l2", family="channel", reduces="C", reference="liu2015")
class UnitNorm(Norm):
    """L2 normalization over channels: the channels of every position become a vector of unit length.

        y = γ x / max(‖x‖₂, ε)                                         §3.3
        ‖x‖₂ over 𝒮 = {same image, same position} × C

    Symbols:      γ weight
    Reduces:      (C) for each image and position.
    Train / eval: identical; no running state. Batch-independent: yes.
    Numerics:     fp32 (fp64 for fp64 input). The gradient at x = 0 is 0.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight: (K·C,)

    Args:
        channels: C ≥ 2, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        scale:    initial γ; a constant if `affine` has no γ. The paper: features of length 1 are too small to
                  train on; length 10 or 20 works. √C gives rms.
        eps:      ε > 0; shorter vectors are divided by ε instead. One value or one per lane. torch: 1e-12.
        affine:   "weight" as in the paper; True, False or "bias".

    Raises:
        NormError: an argument out of range, or one channel in training.

    Reference:  liu2015 — ParseNet: Looking Wider to See Better, arXiv:1506.04579, §3.3.
    Deviations: ε, as in torch.nn.functional.normalize; the paper has none.
    """

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        scale: float = 10.0,
        eps: PerLane = 1e-12,
        affine: Affine = "weight",
    ) -> None:
        super().__init__(channels, lanes, eps=eps, affine=affine)
        self.scale = self.number("scale", scale, above=0)
        if self.weight is not None:
            nn.init.constant_(self.weight, scale)

    def normalize(self, x: Tensor) -> Tensor:
        y = over_channels(x, self.lanes, self._divide)
        return self.scale_shift(y if self.weight is not None else y * self.scale)

    def _divide(self, runs: Tensor, axis: int) -> Tensor:
        length: Tensor = torch.linalg.vector_norm(runs, dim=axis, keepdim=True)
        if self.eps_gain is None:
            return runs / length.clamp_min(self.eps)
        eps = (self.eps / self.eps_gain.to(runs.dtype).square()).view(self.lanes, -1)[:, :1]  # (K, 1)
        return runs / length.clamp_min(eps.view(-1, *(1,) * (length.dim() - 2)) if axis == 2 else eps)

    def check(self, shape: Sequence[int]) -> None:
        self.need_several(
            self.channels,
            f"{self.channels} channel, of which only the sign is left,",
            "use another norm, or leave this layer out",
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scale={self.scale}"
