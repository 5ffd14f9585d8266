"""Batch normalization (key: bn)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from normbench.errors import NormError
from normbench.momentum import parse_momentum
from normbench.norms.core import Affine, Norm, PerLane, per_lane, positions, register


@register(
    "bn", family="batch", reduces="N, H, W", reference="ioffe2015", batch_statistics=True, absorbs_bias=True
)
class BatchNorm(Norm):
    """Batch normalization: statistics per channel over the images of a worker's batch.

        y = γ (x − μ) / √(σ² + ε) + β                                  Algorithm 1
        μ, σ² over 𝒮 = {same channel} × batch × H × W                   training
        μ, σ² ← running statistics                                      evaluation

    Symbols:      μ mean · σ² var (biased) · γ weight · β bias
    Reduces:      (N, H, W) for each channel; N in chunks of `batch` images where that is set (one chunk per worker).
    Train / eval: differ. Batch-independent: no.
    Running statistics: mean and Bessel-corrected variance, s ← s + w_t (new − s) with w_t from `momentum` (weight of the
                  NEW batch, see normbench.momentum). They start at 0 and 1; with several chunks `new` is the chunks' mean.
                  Training never reads them.
    Numerics:     fp32 (fp64 for fp64 input); ε inside the root.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias, running_mean, running_var: (K·C,);  num_batches_tracked: (K,), a scalar for K = 1

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        momentum: weight of the new batch, or another form of `normbench.momentum`; one value or one per lane.
        eps:      ε > 0; one value or one per lane. torch: 1e-5.
        affine:   True, False, "weight" or "bias".
        track:    keep running statistics; without them evaluation uses the batch, too.
        batch:    images per statistic, dividing N; None for all of x.

    Raises:
        NormError: an argument out of range, N not a multiple of `batch`, or one value per statistic.

    Reference:  ioffe2015 — Batch Normalization, ICML 2015, arXiv:1502.03167.
    Deviations: none from torch.nn.BatchNorm2d, whose state_dict it shares for K = 1.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    rate: Tensor

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        momentum: float | str | Sequence[float | str] = 0.1,
        eps: PerLane = 1e-5,
        affine: Affine = True,
        track: bool = True,
        batch: int | None = None,
    ) -> None:
        super().__init__(channels, lanes, eps=eps, affine=affine)
        if batch is not None and batch < 1:
            raise NormError(f"{self.key}: batch must be ≥ 1 image per statistic; got {batch}")
        self.batch = batch
        self.source = "running"  # what evaluation uses: "running" or "batch" statistics
        if not track:
            self.running_mean = self.running_var = self.num_batches_tracked = None
            return
        self.momenta = tuple(parse_momentum(m) for m in per_lane(f"{self.key}: momentum", momentum, lanes))
        rates = torch.tensor([m.rate for m in self.momenta], dtype=torch.float64)
        self.register_buffer("rate", rates, persistent=False)
        self.register_buffer("running_mean", torch.zeros(lanes * channels))
        self.register_buffer("running_var", torch.ones(lanes * channels))
        count = torch.zeros((lanes,) if lanes > 1 else (), dtype=torch.long)
        self.register_buffer("num_batches_tracked", count)

    def normalize(self, x: Tensor) -> Tensor:
        if self.training or self.source == "batch" or self.running_mean is None:
            return self._by_batch(x)
        return self._by_running(x)

    def _by_running(self, x: Tensor) -> Tensor:
        assert self.running_mean is not None and self.running_var is not None
        eps = self.running_var.new_tensor(self.lane_eps).repeat_interleave(self.channels)
        return F.batch_norm(x, self.running_mean, self.running_var + eps, self.weight, self.bias, eps=0.0)

    def _by_batch(self, x: Tensor) -> Tensor:
        parts = self._parts(x.shape[0])
        flat = self.equalized(x)
        if parts > 1:  # every part becomes channels of its own: (S·B, KC, …) → (B, S·KC, …)
            flat = flat.unflatten(0, (parts, -1)).transpose(0, 1).flatten(1, 2)
        mean, var = flat.new_zeros(2, flat.shape[1])
        weight, bias = (p if p is None or parts == 1 else p.repeat(parts) for p in (self.weight, self.bias))
        # momentum 1 makes the kernel hand out the batch's own mean and unbiased variance
        y = F.batch_norm(flat, mean, var, weight, bias, training=True, momentum=1.0, eps=self.eps)
        if parts > 1:
            y = y.unflatten(1, (parts, -1)).transpose(0, 1).flatten(0, 1)
        if self.training and self.running_mean is not None:
            self._track(mean.view(parts, -1).mean(0), var.view(parts, -1).mean(0))
        return y

    def _parts(self, images: int) -> int:
        size = self.batch or images
        if images % size:
            raise NormError(
                f"{self.key}: the input must hold a multiple of {size} images, the size of one statistic; got {images}. "
                "Drop the last incomplete batch"
            )
        return images // size

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        if self.eps_gain is not None:
            gain = self.eps_gain.to(mean.dtype)
            mean, var = mean / gain, var / gain.square()
        weight = self._new_weight().to(self.running_mean.dtype).repeat_interleave(self.channels)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
        self.running_var.lerp_(var.to(self.running_var.dtype), weight)

    def _new_weight(self) -> Tensor:
        """w_t of every lane: (K,)."""
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        if all(m.kind == "ema" for m in self.momenta):
            return self.rate
        t = self.num_batches_tracked.double().expand(self.lanes)
        forms = {"ema": self.rate, "cumulative": 1 / t, "debiased": self.rate / (1 - (1 - self.rate) ** t)}
        return torch.stack([forms[m.kind][k] for k, m in enumerate(self.momenta)])

    def check(self, shape: Sequence[int]) -> None:
        size = self.batch or shape[0]
        self._parts(shape[0])
        self.need_several(
            size * positions(shape),
            f"{size} image per statistic on a map of {positions(shape)} position",
            "use batch ≥ 2, another norm, or placement.sites without this site",
        )
