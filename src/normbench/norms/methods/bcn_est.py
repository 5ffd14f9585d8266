"""Batch-channel normalization by estimated statistics (key: bcn_est)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from normbench.norms.core import Affine
from normbench.norms.ema import PerLaneMomentum
from normbench.norms.lanes import PerLane, along_channels, spread
from normbench.norms.methods.bcn import BatchChannelNorm
from normbench.norms.methods.gn import check_groups
from normbench.norms.registry import register
from normbench.norms.running import over_chunks
from normbench.norms.spatial_moments import saturated


@register(
    "bcn_est",
    family="batch",
    reduces="N, H, W, history; C/G, H, W",
    reference="qiao2019",
    batch_statistics=True,
    eval_differs=True,
    exact_gradient=False,
)
class EstimatedBatchChannelNorm(BatchChannelNorm):
    """Batch-channel normalization for micro-batches: training also normalizes by running estimates.

        μ ← μ + s (mean x − μ)                                         in training
        σ² ← σ² + s (mean (x − μ_old)² − σ²)
        z = γ₁ (x − μ) / √(σ² + ε) + β₁
        y = γ₂ (z − μ₂) / √(σ₂² + ε) + β₂
        means over 𝒮 = {same channel} × batch × H × W
        μ₂, σ₂² over 𝒮 = {same image, same group of channels} × H × W

    Symbols:      μ, σ² estimates · s momentum · γ₁ weight · β₁ bias · γ₂ group_weight · β₂ group_bias
    Reduces:      (N, H, W, history; C/G, H, W): first for each channel, N in chunks of `batch` images
                  if `batch` is set (one chunk per worker), then for each image and group.
    Train / eval: differ: training moves the estimates first. Batch-independent: no.
    Running statistics: μ and σ² start at 0 and 1. Every chunk moves the old estimates by its own statistics
                  and is normalized by the result, like workers that each keep estimates. The mean over chunks
                  is kept. Evaluation with batch statistics is that of bcn.
    Numerics:     fp32 (fp64 for fp64 input), in two passes; ε inside both roots. No gradient passes through
                  the estimates, so dz/dx = γ₁ / √(σ² + ε).

    Shape:
        x: (N, K·C, *spatial), N ≥ 1 → y: same shape and dtype
        weight, bias, running_mean, running_var: (K·C,);  group_weight, group_bias: (K·G,)
        num_batches_tracked: (K,), a scalar for K = 1

    Args:
        channels:   C, channels of one run.
        lanes:      K, stacked runs; 1 for a lone run.
        num_groups: G, groups of one run; must divide C. The paper: 32.
        group_size: C/G instead; must divide C. With neither: as gn, the largest divisor of C up to 16.
        momentum:   s, weight of the new batch, or another form of `normbench.momentum`; one value or one per
                    lane. It changes training.
        eps:        ε > 0 of both; one value or one per lane. The authors' code: 1e-5.
        affine:     True, False, "weight" or "bias", of both.
        batch:      images per statistic; must divide N. None: all of x.

    Attributes:
        num_groups, group_size: the values in effect, of one run.

    Raises:
        NormError: an argument out of range, both num_groups and group_size or one that does not divide C, N
            not a multiple of `batch`, or one value per group.

    Reference:  qiao2019 — Micro-Batch Training with Batch-Channel Normalization and Weight Standardization,
                arXiv:1903.10520.
    Deviations: s is a constant, 0.1. In the authors' code s is a buffer that starts at 0 and is never set,
                which would freeze the estimates at 0 and 1. As there, σ² is taken about the old mean, so it
                is the variance plus the squared error of the mean. For s = 1 that is E[(x − μ_old)²], not the
                variance.
    """

    running_mean: Tensor
    running_var: Tensor

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
        batch: int | None = None,
    ) -> None:
        super().__init__(
            channels, lanes, num_groups=num_groups, group_size=group_size, momentum=momentum, eps=eps,
            affine=affine, batch=batch,
        )  # fmt: skip

    def _by_batch(self, x: Tensor) -> Tensor:
        if not self.training:
            return super()._by_batch(x)
        parts = self.by_chunk(x)
        mean, var = self._moved(parts)
        return self.scaled_by(parts - mean, (var + self.eps_along(x)).rsqrt(), x).flatten(0, 1)

    @torch.no_grad()
    def _moved(self, parts: Tensor) -> tuple[Tensor, Tensor]:
        """Move the estimates by x: (S, B, K·C, *spatial); those of every chunk: (S, 1, K·C, 1, …)."""
        by_lane = self.average.weight(self.count()).to(parts.dtype)
        s = along_channels(spread(by_lane, self.channels), parts[0])
        old_mean = along_channels(self.running_mean, parts[0]).to(parts.dtype)
        old_var = along_channels(self.running_var, parts[0]).to(parts.dtype)
        values = (1, *range(3, parts.dim()))
        var, mean = torch.var_mean(parts, values, correction=0, keepdim=True)
        about_old = saturated(var + (mean - old_mean).square())  # mean (x − μ_old)²
        mean, var = torch.lerp(old_mean, mean, s), torch.lerp(old_var, about_old, s)
        self.running_mean.copy_(over_chunks(mean).flatten())
        self.running_var.copy_(over_chunks(var).flatten())
        return mean, var

    def check(self, shape: Sequence[int]) -> None:
        if not self.training:
            super().check(shape)
            return
        self.chunks(shape[0])
        check_groups(self, self.group_size, shape)
