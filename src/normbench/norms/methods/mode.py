"""Mode normalization (key: mode)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from normbench import rng
from normbench.norms.channel_matrices import without_autocast
from normbench.norms.core import Affine
from normbench.norms.ema import PerLaneMomentum
from normbench.norms.lanes import PerLane, along_channels, per_lane
from normbench.norms.registry import register
from normbench.norms.running import RunningNorm, over_chunks
from normbench.norms.spatial_moments import saturated


@register(
    "mode",
    family="mixture",
    reduces="N, H, W",
    reference="deecke2019",
    batch_statistics=True,
    eval_differs=True,
)
class ModeNorm(RunningNorm):
    """Mode normalization: a gate shares every image among modes, each with its own statistics.

        y = γ Σ_j g_j (x − μ_j) / √(σ_j² + ε) + β
        g = softmax(A φ(x) + a), φ(x) the mean over H × W               for each image
        μ_j, σ_j² over 𝒮 = {same channel} × batch × H × W, every image weighing g_j       training
        μ_j, σ_j² ← running statistics                                 evaluation

    Symbols:      g_j gates of an image, Σ_j g_j = 1 · μ_j mean, σ_j² var (biased) of mode j · A gate_weight ·
                  a gate_bias · γ weight · β bias
    Reduces:      (N, H, W) for each channel and mode, weighted; N in chunks of `batch` images if that is
                  set (one chunk per worker). The gate reduces (H, W) for each image and channel.
    Train / eval: differ. Batch-independent: no.
    Running statistics: E_j[x] and E_j[x²], s ← s + w_t (new − s) with w_t from `momentum` (weight of the NEW
                  batch, see normbench.momentum); with several chunks `new` is the chunks' mean. Stored as
                  mean and variance E_j[x²] − E_j[x]², which start at 0 and 1. The variance is biased and
                  includes the variance between the means of batches. Training never reads them.
    Numerics:     fp32 (fp64 for fp64 input), autocast or not; ε inside the root. All moments come from those
                  of each image and channel, taken in two passes. The output is an affine map per image and
                  channel, so on large maps the cost hardly grows with the modes. On small maps it takes over
                  10 times as long as batch norm, for its many small products.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias: (K·C,);  gate_weight: (K·J, C);  gate_bias: (K·J,);  num_batches_tracked: (K,), a scalar
        for K = 1;  running_mode_mean, running_mode_var: (K·J, C)

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        modes:    J ≥ 1. The paper: 2. With 1 it is batch norm in training.
        momentum: weight of the new batch, or another form of `normbench.momentum`; one value or one per lane.
        eps:      ε > 0; one value or one per lane.
        affine:   True, False, "weight" or "bias".
        track:    whether to keep running statistics. Without them evaluation uses the batch.
        batch:    images per statistic; must divide N. None: all of x.
        seeds:    for the gate's initial weights, one per lane. None: torch's global generator.

    Raises:
        NormError: an argument out of range, N not a multiple of `batch`, or one value per statistic.

    Same as:    bn for modes=1.
    Reference:  deecke2019 — Mode Normalization, ICLR 2019, arXiv:1810.05466; code: ldeecke/mn-torch.
    Deviations: three from the authors' code: the running E_j[x²] start at 1, not 0; running statistics are
                saved with the layer; a mode without any image keeps finite statistics. The initial gate is
                theirs: weights 1/J + 0.01 n with standard normal n, biases uniform within ±1/√C.
    """

    roles: ClassVar[dict[str, str]] = {
        "weight": "scale", "bias": "shift", "gate_weight": "mixture", "gate_bias": "mixture",
    }  # fmt: skip

    joins_workers = "running variance"
    running_mode_mean: Tensor | None
    running_mode_var: Tensor | None

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        modes: int = 2,
        momentum: PerLaneMomentum = 0.1,
        eps: PerLane = 1e-5,
        affine: Affine = True,
        track: bool = True,
        batch: int | None = None,
        seeds: Sequence[int] | None = None,
    ) -> None:
        super().__init__(channels, lanes, momentum=momentum, eps=eps, affine=affine, track=track, batch=batch)
        self.modes = self.whole("modes", modes, most=1000)
        self.gate_weight = nn.Parameter(torch.empty(lanes * modes, channels))
        self.gate_bias = nn.Parameter(torch.empty(lanes * modes))
        self._initialize(seeds)
        self.register_statistic("running_mode_mean", partial(torch.zeros, lanes * modes, channels))
        self.register_statistic("running_mode_var", partial(torch.ones, lanes * modes, channels))

    def normalize(self, x: Tensor) -> Tensor:
        x = self.for_products(x)
        with without_autocast(x):
            return self._by_mode(x)

    def _by_mode(self, x: Tensor) -> Tensor:
        maps = x.flatten(2) if x.dim() > 2 else x.unsqueeze(2)  # (N, K·C, P)
        centred, mean, var = ImageMoments.apply(maps)
        chunks = self.chunks(x.shape[0]) if self.by_batch else 1
        means, variances = (
            moment.view(chunks, -1, self.lanes, self.channels).transpose(1, 2)  # (S, K, B, C)
            for moment in (mean, var)
        )
        gate = self._by_lane(self.gate_weight, x).mT
        logits = means @ gate + self._by_lane(self.gate_bias.unsqueeze(1), x).mT  # (S, K, B, J)
        if self.by_batch:
            beside, mode_var = self._of_batch(means, variances, logits)
        else:
            assert self.running_mode_mean is not None and self.running_mode_var is not None
            beside = means.unsqueeze(3) - self._by_lane(self.running_mode_mean, x).unsqueeze(1)
            mode_var = self._by_lane(self.running_mode_var, x)
        scale = torch.rsqrt(mode_var + self._eps(x))  # (S, K, J, C)
        gates = logits.softmax(3)
        slope = gates @ scale
        offset = (gates.unsqueeze(4) * scale.unsqueeze(-3) * beside).sum(3)
        slope, offset = (t.transpose(1, 2).reshape(mean.shape) for t in (slope, offset))
        if self.weight is not None:
            slope = slope * along_channels(self.weight, slope)
        mixed = torch.mul(centred, slope).add_(self.scale_shift(offset))
        return mixed.view(x.shape)

    def _of_batch(self, means: Tensor, variances: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Differences between the means of images and of modes, and the variances of modes.

        Args:
            means, variances: of every image and channel: (S, K, B, C).
            logits:           of its gates: (S, K, B, J).

        Returns:
            (S, K, B, J, C) and (S, K, J, C).
        """
        shares = logits.log_softmax(3).softmax(2)  # g / Σ g over images, finite even where every g is 0
        mode_mean = shares.mT @ means
        beside = means.unsqueeze(3) - mode_mean.unsqueeze(2)
        mode_var = shares.mT @ variances + (shares.unsqueeze(4) * saturated(beside.square())).sum(2)
        mode_var = saturated(mode_var)
        if self.tracks:
            self._track(mode_mean.detach(), mode_var.detach())
        return beside, mode_var

    @torch.no_grad()
    def _track(self, mode_mean: Tensor, mode_var: Tensor) -> None:
        """Move E_j[x] and E_j[x²], stored as mean and variance, without differences of large squares."""
        holders = [self] if self.banks is None else [self, self.banks]
        shape = (-1, self.lanes, self.modes * self.channels)  # (M, K, J·C), 1 = M for the layer's own
        means, variances = (
            [holder.get_buffer(f"running_mode_{name}").view(shape) for holder in holders]
            for name in ("mean", "var")
        )
        before = [mean.clone() for mean in means]
        new, spread = over_chunks(mode_mean), saturated(mode_mean.var(0, correction=0))
        self.move(running_mode_mean=new, running_mode_var=saturated(over_chunks(mode_var) + spread))
        for mean, var, old in zip(means, variances, before, strict=True):
            var += (new.view(mean.shape[1:]) - mean) * (mean - old)  # w (1 − w) (new − old)², w of the lane
            var.clamp_(max=torch.finfo(var.dtype).max)

    def _by_lane(self, rows: Tensor, x: Tensor) -> Tensor:
        """(K·J, …) as (K, J, …) in x's dtype."""
        return torch.unflatten(rows.to(x.dtype), 0, (self.lanes, -1))

    def _eps(self, x: Tensor) -> float | Tensor:
        """ε, or (K, 1, C) if lanes differ."""
        eps = self.eps_along(x)
        return eps.view(self.lanes, 1, -1) if isinstance(eps, Tensor) else eps

    def _initialize(self, seeds: Sequence[int] | None) -> None:
        """Draw the initial gates, one lane after the other."""
        given: tuple[int | None, ...] = per_lane("mode: seeds", seeds, self.lanes)
        weights, biases = [], []
        for seed in given:
            if seed is not None:
                self.whole("seeds", seed, least=-(2**63))
            generator = None if seed is None else rng.generator(seed, "init/gate")
            noise = torch.randn(self.modes, self.channels, generator=generator, device="cpu")
            weights.append(1 / self.modes + 0.01 * noise)
            biases.append(torch.rand(self.modes, generator=generator, device="cpu"))
        with torch.no_grad():
            self.gate_weight.copy_(torch.cat(weights))
            self.gate_bias.copy_((2 * torch.cat(biases) - 1) / self.channels**0.5)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, modes={self.modes}"


class ImageMoments(torch.autograd.Function):
    """Centred values (N, C, P), and mean and variance (N, C, 1) of every image and channel, of (N, C, P).

    PERF: autograd's own backward pass takes more passes.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean = maps.mean(2, keepdim=True)
        centred = maps - mean
        ctx.save_for_backward(centred)
        return centred, mean, saturated(centred.square().mean(2, keepdim=True))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_centred: Tensor, by_mean: Tensor, by_var: Tensor) -> Tensor:
        (centred,) = ctx.saved_tensors
        values = centred.shape[2]
        grad: Tensor = centred * (2 / values * by_var)
        return grad.add_(by_centred).add_(by_mean / values - by_centred.mean(2, keepdim=True))
