"""Root mean square normalization over channels (key: rms)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from normbench.norms.core import Affine, Norm
from normbench.norms.lanes import PerLane, over_channels
from normbench.norms.registry import register


@register("rms", family="channel", reduces="C", reference="zhang2019")
class RMSNorm(Norm):
    """RMS normalization over channels: every position is divided by the root mean square of its channels.

        y = γ x / √(mean x² + ε)                                       eq. (4)
        mean over 𝒮 = {same image, same position} × C

    Symbols:      γ weight
    Reduces:      (C) for each image and position.
    Train / eval: identical; no running state. Batch-independent: yes.
    Numerics:     fp32 (fp64 for fp64 input); ε inside the root.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight: (K·C,)

    Args:
        channels: C ≥ 2, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        eps:      ε > 0; one value or one per lane. torch.nn.RMSNorm's default is the machine epsilon instead.
        affine:   "weight" as in the paper; True, False or "bias".

    Raises:
        NormError: an argument out of range, or one channel in training.

    Reference:  zhang2019 — Root Mean Square Layer Normalization, NeurIPS 2019, arXiv:1910.07467, §4.
    Deviations: ε; the paper has none.
    """

    def __init__(
        self, channels: int, lanes: int = 1, *, eps: PerLane = 1e-5, affine: Affine = "weight"
    ) -> None:
        super().__init__(channels, lanes, eps=eps, affine=affine)

    def normalize(self, x: Tensor) -> Tensor:
        x = self.equalized(x)
        if x.stride(1) != 1:
            return self.scale_shift(over_channels(x, self.lanes, partial(by_rms, eps=self.eps)))
        rows = x.movedim(1, -1)  # (N, *spatial, K·C). PERF: stored like this, torch's kernel is faster
        if self.lanes == 1 and self.bias is None:
            return F.rms_norm(rows, (self.channels,), self.weight, self.eps).movedim(-1, 1)
        y = F.rms_norm(torch.unflatten(rows, -1, (self.lanes, -1)), (self.channels,), eps=self.eps)
        return self.scale_shift(y.flatten(-2).movedim(-1, 1))

    def check(self, shape: Sequence[int]) -> None:
        self.need_several(
            self.channels,
            f"{self.channels} channel, of which only the sign is left,",
            "use another norm, or leave this layer out",
        )


def by_rms(x: Tensor, axes: int | tuple[int, ...], eps: float) -> Tensor:
    """x / √(mean x² + ε), the mean over the axes."""
    return x * torch.rsqrt(x.square().mean(axes, keepdim=True) + eps)
