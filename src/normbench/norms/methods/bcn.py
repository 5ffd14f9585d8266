"""Batch-channel normalization (key: bcn)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from normbench.norms.core import Affine, Norm
from normbench.norms.ema import PerLaneMomentum
from normbench.norms.lanes import PerLane, spread
from normbench.norms.methods.bn import BatchNorm
from normbench.norms.methods.gn import check_groups, groups_of
from normbench.norms.registry import register


@register(
    "bcn",
    family="batch",
    reduces="N, H, W; C/G, H, W",
    reference="qiao2019",
    batch_statistics=True,
    absorbs_bias=True,
    eval_differs=True,
)
class BatchChannelNorm(BatchNorm):
    """Batch-channel normalization: batch norm, then group norm with a scale and shift per group.

        z = γ₁ (x − μ₁) / √(σ₁² + ε) + β₁
        y = γ₂ (z − μ₂) / √(σ₂² + ε) + β₂
        μ₁, σ₁² over 𝒮 = {same channel} × batch × H × W                 training
        μ₁, σ₁² ← running statistics                                    evaluation
        μ₂, σ₂² over 𝒮 = {same image, same group of channels} × H × W

    Symbols:      μ mean · σ² var (biased) · γ₁ weight · β₁ bias · γ₂ group_weight · β₂ group_bias
                  G num_groups
    Reduces:      (N, H, W; C/G, H, W): first for each channel, N in chunks of `batch` images if that is
                  set (one chunk per worker), then for each image and group.
    Train / eval: differ. Batch-independent: no.
    Running statistics: those of the batch norm, as bn.
    Numerics:     fp32 (fp64 for fp64 input); ε inside both roots.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias, running_mean, running_var: (K·C,);  group_weight, group_bias: (K·G,)
        num_batches_tracked: (K,), a scalar for K = 1

    Args:
        channels:   C, channels of one run.
        lanes:      K, stacked runs; 1 for a lone run.
        num_groups: G, groups of one run; must divide C. The paper: 32.
        group_size: C/G instead; must divide C. With neither: as gn, the largest divisor of C up to 16.
        momentum:   weight of the new batch, or another form of `normbench.momentum`; one value or one per
                    lane.
        eps:        ε > 0 of both; one value or one per lane. The authors' code: 1e-5.
        affine:     True, False, "weight" or "bias", of both.
        track:      whether to keep running statistics. Without them evaluation uses the batch.
        variance:   "unbiased": the running variance is Bessel-corrected, as in torch; "biased": it is not, as
                    in Keras and flax.
        batch:      images per statistic; must divide N. None: all of x.

    Attributes:
        num_groups, group_size: the values in effect, of one run.

    Raises:
        NormError: an argument out of range, both num_groups and group_size or one that does not divide C, N
            not a multiple of `batch`, or one value per statistic.

    Reference:  qiao2019 — Micro-Batch Training with Batch-Channel Normalization and Weight Standardization,
                arXiv:1903.10520.
    Deviations: the default is a group size, not 32 groups. The paper combines the layer with weight
                standardization, which is weight=ws here.
    """

    roles: ClassVar[dict[str, str]] = {**Norm.roles, "group_weight": "scale", "group_bias": "shift"}

    group_weight: nn.Parameter | None
    group_bias: nn.Parameter | None

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        num_groups: int | None = None,
        group_size: int | None = None,
        momentum: PerLaneMomentum = 0.1,
        eps: PerLane = 1e-5,
        affine: Affine = True,
        track: bool = True,
        variance: str = "unbiased",
        batch: int | None = None,
    ) -> None:
        super().__init__(
            channels,
            lanes,
            momentum=momentum,
            eps=eps,
            affine=affine,
            track=track,
            batch=batch,
            variance=variance,
        )
        self.num_groups, self.group_size = groups_of(self, num_groups, group_size)
        groups = lanes * self.num_groups
        self.group_weight = None if self.weight is None else nn.Parameter(torch.ones(groups))
        self.group_bias = None if self.bias is None else nn.Parameter(torch.zeros(groups))

    def normalize(self, x: Tensor) -> Tensor:
        z = self.equalized(super().normalize(x))
        by_group = (self.group_weight, self.group_bias)
        weight, bias = (p if p is None else spread(p, self.group_size) for p in by_group)
        return F.group_norm(z, self.lanes * self.num_groups, weight, bias, self.eps)

    def check(self, shape: Sequence[int]) -> None:
        super().check(shape)
        check_groups(self, self.group_size, shape)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_groups={self.num_groups}, group_size={self.group_size}"
