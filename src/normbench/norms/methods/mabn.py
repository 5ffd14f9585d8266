"""Moving average batch normalization (key: mabn)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from normbench.norms.core import Affine
from normbench.norms.ema import PerLaneMomentum
from normbench.norms.lanes import PerLane, along_channels
from normbench.norms.registry import register
from normbench.norms.running import over_chunks
from normbench.norms.spatial_moments import saturated
from normbench.norms.stateful import Divide, StatefulNorm, along_chunks, chunk_norm


@register(
    "mabn",
    family="batch",
    reduces="N, H, W",
    reference="yan2020",
    batch_statistics=True,
    eval_differs=True,
    exact_gradient=False,
)
class MovingAverageBatchNorm(StatefulNorm):
    """Moving average batch normalization: quadratic means averaged over the last batches, in both directions.

        z = x / √(χ̄ + ε),  y = γ r z + β                                 forward
        ∂L/∂x = (g − ψ̄ z) / √(χ̄ + ε),  g = γ r ∂L/∂y                      backward
        χ̄ = mean of χ = mean x² over the last `buffer` batches, the present one included
        ψ̄ = mean of ψ = mean g z over the same batches
        r = √((χ̄ + ε) / (χ̂ + ε)), clipped to [1/λ, λ], with the running χ̂ ← χ̂ + w_t (χ̄ − χ̂)

    Symbols:      χ quadratic mean · ψ projection of the gradient · r renormalization, held constant in
                  backward · λ clip · γ weight · β bias
    Reduces:      (N, H, W) for each channel, without centring; N in chunks of `batch` images if `batch`
                  is set.
    Train / eval: differ: evaluation divides by √(χ̂ + ε). Batch-independent: no.
    Running statistics: running_square χ̂; w_t from `momentum` with w_1 = 1; squares and projections hold the
                  last χ and ψ, newest last. Until the buffer is full, and during the warm-up, the batch's own
                  χ and ψ replace χ̄ and ψ̄, and r = 1: the layer is a batch RMS norm with its true gradient.
                  The
                  backward pass moves the projections: run it once after each training pass. Several chunks
                  enter one after the other, each averaged with those before it; χ̂ moves once, to their mean
                  χ̄. For the very first batch r = 1 in any case.
    Numerics:     fp32 (fp64 for fp64 input); ε inside the root. While averages replace the batch's own
                  statistics, the backward pass is not the gradient of the forward pass, by design.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias, running_square: (K·C,);  squares, projections: (K·C, buffer);
        num_batches_tracked, num_squares_tracked: (K,), a scalar for K = 1

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        momentum: weight of the new in χ̂, or another form of `normbench.momentum`; one value or one per lane.
                  The authors' code: 0.02.
        buffer:   batches averaged over. The authors' ImageNet code: 16 batches of 2 images.
        warmup:   share of the run, as `begin_step` counts it, that uses the batch's own statistics. If nobody
                  calls `begin_step`, only the batches that fill the buffer do.
        clip:     λ ≥ 1, bound of r and 1/r; 1 switches r off. The authors' code: 5.
        eps:      ε > 0; one value or one per lane.
        affine:   True, False, "weight" or "bias".
        batch:    images per statistic; must divide N. None: all of x.

    Raises:
        NormError: an argument out of range, N not a multiple of `batch`, or one value per statistic.

    Reference:  yan2020 — Towards Stabilizing Batch Statistics in Backward Propagation of Batch Normalization,
                ICLR 2020, arXiv:2001.06838. Meant for layers with weight=centered before it, which replaces
                the subtraction of means.
    Deviations: values, the order of updates, the order of chunks, and that χ̂ follows χ̄, are those of the
                authors' code (github.com/megvii-model/MABN); its ImageNet runs cut 32 images into 16 batches
                of 2 in this way. There averaging begins after 100 steps and r after 1,000. Here both begin
                when the buffer is full and the warm-up, a share of the run, is over. Only its ImageNet code
                has w_1 = 1.
    """

    joins_workers = "ring of statistics"
    running_square: Tensor
    squares: Tensor
    projections: Tensor
    num_squares_tracked: Tensor

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        buffer: int = 16,
        warmup: float = 0.02,
        clip: float = 5.0,
        momentum: PerLaneMomentum = 0.02,
        eps: PerLane = 1e-5,
        affine: Affine = True,
        batch: int | None = None,
    ) -> None:
        super().__init__(channels, lanes, momentum=momentum, eps=eps, affine=affine, batch=batch)
        self.buffer = self.whole("buffer", buffer, most=10_000)
        self.warmup = self.share("warmup", warmup)
        self.phase_change_at = self.warmup
        self.clip = self.number("clip", clip, least=1)
        self.register_statistic("running_square", partial(torch.ones, lanes * channels))
        self.register_statistic("squares", partial(torch.zeros, lanes * channels, buffer))
        self.register_statistic("projections", partial(torch.zeros, lanes * channels, buffer))
        self.register_statistic("num_squares_tracked", self._no_batches)

    def normalize(self, x: Tensor) -> Tensor:
        if not self.by_batch:
            return self.scale_shift(x * (along_channels(self.running_square, x) + self.eps_along(x)).rsqrt())
        parts = self.by_chunk(x)
        with torch.no_grad():
            square = chunk_norm(parts, 2)
        if not self.training:
            z = Divide.apply(parts, (square + self.eps_along(square)).sqrt(), lambda product: product)
            return self.scale_shift(z.flatten(0, 1))
        with torch.no_grad():
            ready, eps = self._ready(len(square)), self.eps_along(square)
            square = torch.where(ready, self._enter(self.squares, square), square)
            root = (square + eps).sqrt()
            r = (root / (self.running_square + eps).sqrt()).clamp(1 / self.clip, self.clip)
            r = torch.where(ready & ~self.fresh, r, 1.0)
            self.move(running_square=over_chunks(square))
        z = Divide.apply(parts, root, partial(self._project, ready)) * along_chunks(r, parts)
        return self.scale_shift(z.flatten(0, 1))

    def _ready(self, chunks: int) -> Tensor:
        """Whether averages are used, per chunk and channel: (S, K·C)."""
        count = torch.arange(1, chunks + 1, device=self.squares.device).unsqueeze(1)
        full = self.num_squares_tracked + count >= self.buffer  # (S, K)
        self.num_squares_tracked += chunks
        return (full & (self.after_phase_change is not False)).repeat_interleave(self.channels, 1)

    def _enter(self, ring: Tensor, new: Tensor) -> Tensor:
        """Add new values to a ring one after the other; the ring's mean after each. Both are (S, K·C)."""
        sequence = torch.cat([ring[:, 1:], new.t()], 1)
        ring.copy_(sequence[:, -self.buffer :])
        return saturated(sequence.unfold(1, self.buffer, 1).mean(2).t())

    def _project(self, ready: Tensor, product: Tensor) -> Tensor:
        """The value that replaces ψ in the backward pass."""
        return torch.where(ready, self._enter(self.projections, product), product)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, buffer={self.buffer}, warmup={self.warmup}, clip={self.clip}"
