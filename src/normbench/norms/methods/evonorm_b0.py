"""EvoNorm-B0 (key: evonorm_b0)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from normbench.norms.core import Affine, Norm
from normbench.norms.ema import PerLaneMomentum
from normbench.norms.lanes import PerLane, along_channels
from normbench.norms.registry import register
from normbench.norms.running import RunningNorm, over_chunks
from normbench.norms.spatial_moments import map_moments, merged


@register(
    "evonorm_b0",
    family="batch",
    reduces="N, H, W",
    reference="liu2020",
    batch_statistics=True,
    eval_differs=True,
    activates=True,
)
class EvoNormB0(RunningNorm):
    """EvoNorm-B0: divides by the larger of the batch's deviation and the map's deviation plus a linear term.

        y = γ x / max(√(s² + ε), v x + √(s_i² + ε)) + β
        s² over 𝒮 = {same channel} × batch × H × W                       training
        s² ← running variance                                          evaluation
        s_i² over 𝒮 = {same image, same channel} × H × W                 always

    Symbols:      s², s_i² var (biased) · v v · γ weight · β bias
    Reduces:      (N, H, W) for each channel, and (H, W) for each image and channel; N in chunks of `batch`
                  images if `batch` is set (one chunk per worker).
    Train / eval: differ. Batch-independent: no.
    Running statistics: the variance, biased, s ← s + w_t (new − s) with w_t from `momentum` (weight of the
                  NEW batch, see normbench.momentum). It starts at 1; with several chunks `new` is the chunks'
                  mean. No mean is subtracted, so none is kept. Training never reads the variance.
    Numerics:     fp32 (fp64 for fp64 input), in two passes; ε inside the roots. On maps of one position s_i
                  is 0 and y saturates near γ / v + β for large x.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias, v, running_var: (K·C,);  num_batches_tracked: (K,), a scalar for K = 1

    Args:
        channels:  C, channels of one run.
        lanes:     K, stacked runs; 1 for a lone run.
        momentum:  weight of the new batch, or another form of `normbench.momentum`; one value or one per
                   lane. The authors' code: 0.1 (decay 0.9).
        eps:       ε > 0; one value or one per lane. The authors' code: 1e-5.
        affine:    True, False, "weight" or "bias".
        track:     whether to keep the running variance. Without it evaluation uses the batch.
        batch:     images per statistic; must divide N. None: all of x.
        activated: whether the layer replaces an activation that would follow. If not, there are no v and no
                   running variance, and the output is γ x + β.

    Raises:
        NormError: an argument out of range, N not a multiple of `batch`, or one value per batch statistic.

    Reference:  liu2020 — Evolving Normalization-Activation Layers, NeurIPS 2020, arXiv:2004.02967.
    Deviations: none from the authors' code (`evonorm` in tensorflow/tpu): its running variance is biased too,
                and it returns γ x + β if no activation follows. timm corrects the running variance by
                m / (m − 1) and has ε = 1e-3.
    """

    roles: ClassVar[dict[str, str]] = {**Norm.roles, "v": "scale"}

    v: nn.Parameter | None
    running_var: Tensor | None

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        momentum: PerLaneMomentum = 0.1,
        eps: PerLane = 1e-5,
        affine: Affine = True,
        track: bool = True,
        batch: int | None = None,
        activated: bool = True,
    ) -> None:
        super().__init__(channels, lanes, momentum=momentum, eps=eps, affine=affine, track=track, batch=batch)
        self.v = nn.Parameter(torch.ones(lanes * channels)) if self.flag("activated", activated) else None
        self.register_statistic("running_var", partial(torch.ones, lanes * channels), kept=activated)

    def normalize(self, x: Tensor) -> Tensor:
        if self.v is None:
            return self.scale_shift(x)
        _, mean, var = map_moments(x)
        eps = self.eps_along(x)
        left = torch.sqrt(self._variance(x, mean, var) + eps)
        ahead = torch.sqrt(var + eps) - left
        # PERF: max(a, b) = a + relu(b − a), twice as fast as torch.maximum
        larger = left + F.relu(x * along_channels(self.v, x) + ahead)
        return self.scale_shift(x / larger)

    def check(self, shape: Sequence[int]) -> None:
        if self.v is not None:
            super().check(shape)

    def _variance(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        """s² for every image, (N, K·C, 1, …), from moments of maps; (1, K·C, 1, …) if it is running."""
        if not self.by_batch:
            assert self.running_var is not None
            return along_channels(self.running_var, x)
        _, chunked = merged(self.by_chunk(mean), self.by_chunk(var), 1)  # (S, 1, K·C, 1, …)
        if self.tracks:
            self.move(running_var=over_chunks(chunked))
        size = self.statistic_size(x.shape[0])
        return chunked.expand(-1, size, *(-1,) * (x.dim() - 1)).flatten(0, 1)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, activated={self.v is not None}"
