"""Extended batch normalization (key: ebn)."""

from __future__ import annotations

import torch
from torch import Tensor

from normbench.norms.core import Affine
from normbench.norms.ema import PerLaneMomentum
from normbench.norms.lanes import PerLane
from normbench.norms.registry import register
from normbench.norms.running import RunningNorm, over_chunks
from normbench.norms.spatial_moments import merged, saturated


@register(
    "ebn",
    family="batch",
    reduces="N, H, W | N, C, H, W",
    reference="luo2020",
    batch_statistics=True,
    eval_differs=True,
)
class ExtendedBatchNorm(RunningNorm):
    """Extended batch normalization: a mean per channel, and one deviation for all channels together.

        y = γ (x − μ) / √(σ² + ε) + β                                  §3
        μ  over 𝒮 = {same channel} × batch × H × W                      training
        σ² over 𝒮 = batch × C × H × W, around the mean of all its values training
        μ, σ² ← running statistics                                     evaluation

    Symbols:      μ mean · σ² var (biased) · γ weight · β bias
    Reduces:      N, H, W | N, C, H, W. N in chunks of `batch` images if that is set (one chunk per worker).
                  σ² has C times as many values as in bn, so small batches disturb it less.
    Train / eval: differ. Batch-independent: no.
    Running statistics: mean and Bessel-corrected variance of every channel, as bn's, s ← s + w_t (new − s)
                  with w_t from `momentum` (weight of the NEW batch, see normbench.momentum). They start at 0
                  and 1; with several chunks `new` is the chunks' mean. Evaluation takes σ² from them: the
                  mean over the channels of the variances, plus the variance of the means. Training never
                  reads them.
    Numerics:     fp32 (fp64 for fp64 input), in two passes; ε inside the root. A bias before the layer shifts
                  the means of the channels apart, so it changes σ². Models drop that bias because β replaces
                  it; without β they keep it.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias, running_mean, running_var: (K·C,);  num_batches_tracked: (K,), a scalar for K = 1

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        momentum: weight of the new batch, or another form of `normbench.momentum`; one value or one per lane.
        eps:      ε > 0; one value or one per lane.
        affine:   True, False, "weight" or "bias".
        track:    whether to keep running statistics. Without them evaluation uses the batch.
        variance: "unbiased": the running variance is Bessel-corrected, as in torch; "biased": it is not, as
                  in Keras and flax.
        batch:    images per statistic; must divide N. None: all of x.

    Raises:
        NormError: an argument out of range, N not a multiple of `batch`, or one value per channel.

    Reference:  luo2020 — Extended Batch Normalization, arXiv:2003.05569.
    Deviations: written from the abstract's words, "the standard deviation along the (N, C, H, W) dimensions";
                the paper's equations were not seen. bn's statistics are kept instead of σ² itself, so that
                both layers exchange their state. With one channel the layer is bn.
    """

    running_mean: Tensor | None
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
        variance: str = "unbiased",
        batch: int | None = None,
    ) -> None:
        super().__init__(channels, lanes, momentum=momentum, eps=eps, affine=affine, track=track, batch=batch)
        self.register_moments(variance)

    def normalize(self, x: Tensor) -> Tensor:
        if not self.by_batch:
            assert self.running_mean is not None and self.running_var is not None
            alone = (1, 1, -1, *(1,) * (x.dim() - 2))  # one chunk for all images
            mean, var = self.running_mean.view(alone), self.running_var.view(alone)
            parts = x.unsqueeze(0)
            return self._divide(parts - mean, mean, var, x)
        parts = self.by_chunk(x)
        values = (1, *range(3, parts.dim()))
        mean = parts.mean(values, keepdim=True)  # (S, 1, K·C, 1, …)
        centred = parts - mean
        var = saturated(centred.square().mean(values, keepdim=True))
        if self.tracks:
            count = parts.numel() // mean.numel()
            correction = 1 if self.variance == "biased" else count / (count - 1)
            running_var = saturated(over_chunks(var) * correction)
            self.move(running_mean=over_chunks(mean), running_var=running_var)
        return self._divide(centred, mean, var, x)

    def _divide(self, centred: Tensor, mean: Tensor, var: Tensor, x: Tensor) -> Tensor:
        """γ (x − μ) / √(σ² + ε) + β, as x, from x − μ in chunks and the channels' moments."""
        _, total = merged(self._by_lane(mean), self._by_lane(var), 3)  # (S, 1, K, 1, 1, …)
        total = total.expand_as(self._by_lane(mean)).flatten(2, 3)
        return self.scaled_by(centred, torch.rsqrt(total + self.eps_along(x)), x).flatten(0, 1)

    def _by_lane(self, moment: Tensor) -> Tensor:
        """View a moment (S, 1, K·C, 1, …) as (S, 1, K, C, 1, …)."""
        return torch.unflatten(moment, 2, (self.lanes, -1))
