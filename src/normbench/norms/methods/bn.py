"""Batch normalization (key: bn)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from normbench.errors import NormError
from normbench.norms.core import Affine
from normbench.norms.ema import PerLaneMomentum
from normbench.norms.lanes import PerLane, along_channels
from normbench.norms.registry import register
from normbench.norms.running import RunningNorm, over_chunks
from normbench.norms.spatial_moments import saturated

#: Devices on which the kernel gets half precision as it is, with γ, β and statistics in fp32. PERF: it
#: computes in fp32 inside, so casts around it are further kernels. A CPU keeps the bits that it had.
HALVES_ON = ("cuda",)
#: Number of values that a CPU copies there and back in the time of one kernel call.
CALL = 2**15


class Slots:
    """Whether layers now leave the mean and variance of their batch in their `slot`. Many layers share it."""

    used = False


@register(
    "bn",
    family="batch",
    reduces="N, H, W",
    reference="ioffe2015",
    batch_statistics=True,
    absorbs_bias=True,
    eval_differs=True,
)
class BatchNorm(RunningNorm):
    """Batch normalization: statistics per channel over the images of a worker's batch.

        y = γ (x − μ) / √(σ² + ε) + β                                  Algorithm 1
        y = γ (x − μ) + β                                              scale=False: mean-only
        y = γ x / √(σ² + ε) + β                                        center=False: variance-only
        μ, σ² over 𝒮 = {same channel} × batch × H × W                   training
        μ, σ² ← running statistics                                      evaluation

    Symbols:      μ mean · σ² var (biased, around μ) · γ weight · β bias
    Reduces:      (N, H, W) for each channel; N in chunks of `batch` images if that is set (one chunk per
                  worker).
    Train / eval: differ. Batch-independent: no.
    Running statistics: mean and Bessel-corrected variance, s ← s + w_t (new − s) with w_t from `momentum`
                  (weight of the NEW batch, see normbench.momentum). They start at 0 and 1; with several
                  chunks `new` is the chunks' mean. Training never reads them. Both are kept whatever `center`
                  and `scale` say.
    Numerics:     fp32 (fp64 for fp64 input); ε inside the root, unused without `scale`. Without `center` a
                  bias before the layer is not removed; models drop it only if β replaces it.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias, running_mean, running_var: (K·C,);  num_batches_tracked: (K,), a scalar for K = 1

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        momentum: weight of the new batch, or another form of `normbench.momentum`; one value or one per lane.
        eps:      ε > 0; one value or one per lane. torch: 1e-5.
        affine:   True, False, "weight" or "bias".
        track:    whether to keep running statistics. Without them evaluation uses the batch.
        variance: "unbiased": the running variance is Bessel-corrected, as in torch; "biased": it is not, as
                  in Keras and flax.
        center:   whether to subtract the mean.
        scale:    whether to divide by the deviation. One of center and scale must be true.
        batch:    images per statistic; must divide N. None: all of x.

    Raises:
        NormError: an argument out of range, N not a multiple of `batch`, or one value per statistic.

    Reference:  ioffe2015 — Batch Normalization, ICML 2015, arXiv:1502.03167. Mean-only: salimans2016, §4.
                Variance-only: daneshmand2020; lubana2021 compares it with others.
    Deviations: none from torch.nn.BatchNorm2d, whose state_dict it shares for K = 1. As here, the paper
                corrects the running variance by m / (m − 1); it leaves the averaging open. Keras and flax
                move the biased variance: of 2 values, half of ours. So their momentum m, keras:m here, means
                the same average only with variance=biased. In Keras `center` and `scale` are β and γ; here
                they are the two halves of the normalization, and `affine` decides on β and γ.
    """

    standardizes = True
    #: Set by whoever moves the running statistics in place of the layer, see `SharedStatistics`: zeros that a
    #: training pass overwrites with mean and variance of its batch, and whether it does so now.
    slot: tuple[Tensor, Tensor]
    slots: Slots = Slots()
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
        center: bool = True,
        scale: bool = True,
        batch: int | None = None,
    ) -> None:
        super().__init__(channels, lanes, momentum=momentum, eps=eps, affine=affine, track=track, batch=batch)
        self.center, self.scale = self.flag("center", center), self.flag("scale", scale)
        if not (center or scale):
            raise NormError(
                f"{self.key}: center and scale must not both be false, or nothing is normalized. "
                "Use affine for γ and β alone"
            )
        self.register_moments(variance)

    @property
    def kernel_momentum(self) -> float | None:
        """The momentum with which torch's kernel can move the running statistics; None if lanes differ.

        PERF: saves 15 to 25 µs a call, and gives exactly the bits of torch's layer.
        """
        plain = self.eps_gain is None and self.variance == "unbiased"
        return self.average.constant if plain else None

    @property
    def fused(self) -> tuple[Tensor | None, Tensor | None]:
        """γ and β that the kernel applies; None for those that a subclass applies itself."""
        return self.weight, self.bias

    def widens(self, x: Tensor) -> bool:
        return type(self) is BatchNorm and self.slots.used and x.device.type in HALVES_ON

    def normalize(self, x: Tensor) -> Tensor:
        if self.slots.used:
            return self._kernel(x, *self.slot)
        if not (self.center and self.scale):
            return self._by_one_moment(x)
        return self._by_batch(x) if self.by_batch else self._by_running(x)

    def _by_one_moment(self, x: Tensor) -> Tensor:
        """Only subtract the mean, or only divide by the deviation."""
        if not self.by_batch:
            assert self.running_mean is not None and self.running_var is not None
            mean, var = along_channels(self.running_mean, x), along_channels(self.running_var, x)
            return self._apply_one(x, mean, var, x)
        parts = self.by_chunk(x)
        values = (1, *range(3, parts.dim()))
        mean = parts.mean(values, keepdim=True)  # (S, 1, K·C, 1, …)
        with torch.set_grad_enabled(self.scale and torch.is_grad_enabled()):  # else only tracked
            var = saturated((parts - mean).square().mean(values, keepdim=True))
        if self.tracks:
            count = parts.numel() // mean.numel()
            self._keep(mean.flatten(1), var.flatten(1) * (count / (count - 1)), count)
        return self._apply_one(parts, mean, var, x).flatten(0, 1)

    def _apply_one(self, parts: Tensor, mean: Tensor, var: Tensor, x: Tensor) -> Tensor:
        """γ (x − μ) + β or γ x / √(σ² + ε) + β; `parts` is x or its chunks."""
        if self.center:
            return self.scaled_by(parts - mean, torch.ones_like(mean), x)
        return self.scaled_by(parts, torch.rsqrt(var + self.eps_along(x)), x)

    def _by_running(self, x: Tensor) -> Tensor:
        assert self.running_mean is not None and self.running_var is not None
        if self.eps_gain is None:
            var, eps = self.running_var, self.eps
        else:
            var, eps = self.running_var + self.eps / self.eps_gain.to(x.dtype).square(), 0.0
        return F.batch_norm(x, self.running_mean, var, *self.fused, eps=eps)

    def _by_batch(self, x: Tensor) -> Tensor:
        chunks = self.chunks(x.shape[0])
        gathers = chunks > 1 and pays_to_gather(x, chunks)
        # a run in a bank must get the bits of a run alone, so all runs of the engine take the same path
        if self.tracks and self.kernel_momentum is not None and not gathers and not self.knows_progress:
            return self._by_kernel_alone(x, chunks, self.kernel_momentum)
        x = self.equalized(x)
        # momentum 1 makes the kernel return the batch's own mean and unbiased variance
        mean, var = x.new_zeros((2, chunks, x.shape[1]) if chunks > 1 else (2, x.shape[1]))
        if chunks == 1:
            y = self._kernel(x, mean, var)
        elif gathers:  # every chunk as channels: (S·B, K·C, …) → (B, S·K·C, …)
            gathered = torch.unflatten(x, 0, (chunks, -1)).transpose(0, 1).flatten(1, 2)
            y = self._kernel(gathered, mean.view(-1), var.view(-1), copies=chunks)
            y = torch.unflatten(y, 1, (chunks, -1)).transpose(0, 1).flatten(0, 1)
        else:
            y = torch.cat([self._kernel(*part) for part in zip(x.chunk(chunks), mean, var, strict=True)])
        if self.tracks:
            self._keep(*self._unequalized(mean, var), x.numel() // (chunks * x.shape[1]))
        return y

    def _by_kernel_alone(self, x: Tensor, chunks: int, momentum: float) -> Tensor:
        """Normalize by batch statistics; the kernel itself moves the running ones.

        For chunk i of S the kernel gets the momentum (m/S) / (1 − (S − i) m/S). In the end every chunk weighs
        m/S, and the old statistics 1 − m.
        """
        self.count()
        if chunks == 1:
            return self._kernel(x, self.running_mean, self.running_var, momentum)
        share = momentum / chunks
        return torch.cat(
            [
                self._kernel(part, self.running_mean, self.running_var, share / (1 - left * share))
                for part, left in zip(x.chunk(chunks), reversed(range(chunks)), strict=True)
            ]
        )

    def _keep(self, mean: Tensor, var: Tensor, values: int) -> None:
        """Move the running statistics.

        Args:
            mean:   of every chunk, (S, K·C), or of a single one, (K·C,).
            var:    Bessel-corrected, in the same shape.
            values: how many values each of them averages.
        """
        if self.variance == "biased":
            var = var * ((values - 1) / values)
        most = torch.finfo(var.dtype).max  # an infinite variance would make the average NaN
        self.move(running_mean=over_chunks(mean), running_var=over_chunks(var).clamp(max=most))

    def _unequalized(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance, (…, K·C), of x from those of `equalized(x)`."""
        if self.eps_gain is None:
            return mean, var
        gain = self.eps_gain.to(mean.dtype)
        return mean / gain, var / gain.square()

    def _kernel(
        self, x: Tensor, mean: Tensor | None, var: Tensor | None, momentum: float = 1.0, copies: int = 1
    ) -> Tensor:
        weight, bias = self.fused
        if copies > 1:
            weight, bias = (p if p is None else p.repeat(copies) for p in (weight, bias))
        # PERF: F.batch_norm would check the shape again, see `check`
        cudnn = torch.backends.cudnn.enabled
        return torch.batch_norm(x, weight, bias, mean, var, True, momentum, self.lane_eps[0], cudnn)


def pays_to_gather(x: Tensor, chunks: int) -> bool:
    """Whether one kernel call on a rearranged copy is faster than a call for each chunk of x.

    PERF: on a CPU, gathering costs about four calls plus the copies; on a GPU, calls cost most.
    """
    return not x.is_cpu or x.numel() < CALL * (chunks - 4)
