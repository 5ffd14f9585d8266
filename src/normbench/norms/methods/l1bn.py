"""L1 batch normalization (key: l1bn)."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from normbench.norms.core import Affine
from normbench.norms.ema import PerLaneMomentum
from normbench.norms.lanes import PerLane, along_channels
from normbench.norms.registry import register
from normbench.norms.running import RunningNorm, over_chunks

#: σ of a normal variable over its mean absolute deviation.
SIGMA = math.sqrt(math.pi / 2)


@register(
    "l1bn",
    family="batch",
    reduces="N, H, W",
    reference="hoffer2018",
    batch_statistics=True,
    absorbs_bias=True,
    eval_differs=True,
)
class L1BatchNorm(RunningNorm):
    """L1 batch normalization: batch norm that measures spread by the mean absolute deviation.

        y = γ (x − μ) / (s + ε) + β,  s = √(π/2) mean |x − μ|          §4
        μ, s over 𝒮 = {same channel} × batch × H × W                    training
        μ, s ← running statistics                                      evaluation

    Symbols:      μ mean · s deviation; √(π/2) makes it σ for normal values · γ weight · β bias
    Reduces:      (N, H, W) for each channel; N in chunks of `batch` images if that is set (one chunk per
                  worker).
    Train / eval: differ. Batch-independent: no.
    Running statistics: mean and deviation s (not its inverse), r ← r + w_t (new − r) with w_t from `momentum`
                  (weight of the NEW batch). They start at 0 and 1; with several chunks `new` is the chunks'
                  mean. Training never reads them.
    Numerics:     fp32 (fp64 for fp64 input), in two passes; ε outside. |·| has gradient 0 at 0.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias, running_mean, running_deviation: (K·C,);  num_batches_tracked: (K,), a scalar for K = 1

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        momentum: weight of the new batch, or another form of `normbench.momentum`; one value or one per lane.
        eps:      ε > 0, in units of x; one value or one per lane. The authors' code: 1e-5.
        affine:   True, False, "weight" or "bias".
        track:    whether to keep running statistics. Without them evaluation uses the batch.
        batch:    images per statistic; must divide N. None: all of x.

    Raises:
        NormError: an argument out of range, N not a multiple of `batch`, or one value per statistic.

    Reference:  hoffer2018 — Norm matters: efficient and accurate normalization schemes in deep networks,
                NeurIPS 2018, arXiv:1803.01814, §4.
    Deviations: the authors' code averages the inverse of s and gives the new batch the weight 1 − momentum.
                As there, s is not corrected for the batch's size: for m independent normal values it is too
                small by the factor √((m − 1) / m).
    """

    running_mean: Tensor | None
    running_deviation: Tensor | None

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
    ) -> None:
        super().__init__(channels, lanes, momentum=momentum, eps=eps, affine=affine, track=track, batch=batch)
        self.register_statistic("running_mean", partial(torch.zeros, lanes * channels))
        self.register_statistic("running_deviation", partial(torch.ones, lanes * channels))

    def normalize(self, x: Tensor) -> Tensor:
        if not self.by_batch:
            assert self.running_mean is not None and self.running_deviation is not None
            mean, deviation = (along_channels(s, x) for s in (self.running_mean, self.running_deviation))
            return self._divide(x - mean, deviation, x)
        parts = self.by_chunk(x)
        values = (1, *range(3, parts.dim()))
        mean = parts.mean(values, keepdim=True)  # (S, 1, K·C, 1, …)
        centred = parts - mean
        deviation = SIGMA * centred.abs().mean(values, keepdim=True)
        if self.tracks:
            self.move(running_mean=over_chunks(mean), running_deviation=over_chunks(deviation))
        return self._divide(centred, deviation, x).flatten(0, 1)

    def _divide(self, centred: Tensor, deviation: Tensor, x: Tensor) -> Tensor:
        """γ (x − μ) / (s + ε) + β."""
        return self.scaled_by(centred, (deviation + self.eps_along(x)).reciprocal(), x)
