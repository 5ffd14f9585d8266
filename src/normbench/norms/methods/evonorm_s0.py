"""EvoNorm-S0 (key: evonorm_s0)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from normbench.norms.core import Affine, Norm
from normbench.norms.lanes import PerLane, along_channels
from normbench.norms.methods.gn import check_groups, groups_of
from normbench.norms.registry import register
from normbench.norms.spatial_moments import map_moments, merged


@register("evonorm_s0", family="sample", reduces="C/G, H, W", reference="liu2020", activates=True)
class EvoNormS0(Norm):
    """EvoNorm-S0: a gated activation over the standard deviation of a group of channels.

        y = γ x σ(v x) / √(s² + ε) + β,  σ(t) = 1 / (1 + e^−t)
        s² over 𝒮 = {same image, same group of channels} × H × W

    Symbols:      s² var (biased) · v v · γ weight · β bias
    Reduces:      (C/G, H, W) for each image and group.
    Train / eval: identical; no running state. Batch-independent: yes.
    Numerics:     fp32 (fp64 for fp64 input), in two passes; ε inside the root.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias, v: (K·C,)

    Args:
        channels:   C, channels of one run.
        lanes:      K, stacked runs; 1 for a lone run.
        num_groups: G, groups of one run; must divide C. The authors' code: 32, or the next smaller divisor of
                    C.
        group_size: C/G instead; must divide C. With neither: the largest divisor of C up to 16, so that
                    narrow layers do not get one channel per group.
        eps:        ε > 0; one value or one per lane. The authors' code: 1e-5.
        affine:     True, False, "weight" or "bias".
        activated:  whether the layer replaces an activation that would follow. If not, there is no v, and the
                    output is γ x + β.

    Attributes:
        num_groups, group_size: the values in effect, of one run.

    Raises:
        NormError: an argument out of range, both num_groups and group_size, a value that does not divide C,
                   or one value per statistic, which would be divided by √ε.

    Reference:  liu2020 — Evolving Normalization-Activation Layers, NeurIPS 2020, arXiv:2004.02967.
    Deviations: the default is a group size, not 32 groups. If no activation follows, the output is γ x + β,
                as in the authors' code (`nonlinearity=False` in tensorflow/tpu).
    """

    roles: ClassVar[dict[str, str]] = {**Norm.roles, "v": "scale"}

    v: nn.Parameter | None

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        num_groups: int | None = None,
        group_size: int | None = None,
        eps: PerLane = 1e-5,
        affine: Affine = True,
        activated: bool = True,
    ) -> None:
        super().__init__(channels, lanes, eps=eps, affine=affine)
        self.num_groups, self.group_size = groups_of(self, num_groups, group_size)
        self.v = nn.Parameter(torch.ones(lanes * channels)) if self.flag("activated", activated) else None

    def normalize(self, x: Tensor) -> Tensor:
        if self.v is None:
            return self.scale_shift(x)
        gain = torch.rsqrt(self._variance(x) + self.eps_along(x))
        return self.scaled_by(x * torch.sigmoid(x * along_channels(self.v, x)), gain, x)

    def check(self, shape: Sequence[int]) -> None:
        if self.v is not None:
            check_groups(self, self.group_size, shape)

    def _variance(self, x: Tensor) -> Tensor:
        """s² at every channel: (N, K·C, 1, …)."""
        _, mean, var = map_moments(x)
        groups = (self.lanes * self.num_groups, self.group_size)
        _, var = merged(mean.unflatten(1, groups), var.unflatten(1, groups), 2)  # (N, K·G, 1, 1, …)
        return var.expand(-1, -1, self.group_size, *(-1,) * (x.dim() - 2)).flatten(1, 2)

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, num_groups={self.num_groups}, group_size={self.group_size}, "
            f"activated={self.v is not None}"
        )
