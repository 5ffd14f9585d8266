"""Mixture normalization (key: mixture)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import NormalDist

import torch
from torch import Tensor

from normbench.errors import NormError
from normbench.norms.channel_matrices import as_matrices, from_matrices, without_autocast
from normbench.norms.core import Affine
from normbench.norms.ema import PerLaneMomentum
from normbench.norms.gaussian_mixture import Components, Mixed, expect, maximize, mix
from normbench.norms.lanes import PerLane, positions
from normbench.norms.registry import register
from normbench.norms.running import RunningNorm, over_chunks
from normbench.norms.spatial_moments import saturated


@register(
    "mixture",
    family="mixture",
    reduces="N, H, W",
    reference="kalayeh2019",
    batch_statistics=True,
    absorbs_bias=True,
    eval_differs=True,
    exact_gradient=False,
)
class MixtureNorm(RunningNorm):
    """Mixture normalization: positions are shared among Gaussian components, each with its own statistics.

        y = γ Σ_j p_j / √λ_j · (x − μ_j) / √(σ_j² + ε) + β
        p_j(x) ∝ λ_j 𝒩(x; μ_j, diag(σ_j² + ε)), x the channels of one position
        λ_j, μ_j, σ_j² by expectation maximization over 𝒮 = batch × H × W      training
        λ_j, μ_j, σ_j² ← running statistics                            evaluation

    Symbols:      p_j responsibility of component j = 1 … J for a position, Σ_j p_j = 1 · λ_j its mean · μ_j
                  mean, σ_j² var (biased) of each channel, with weight p_j for a position · γ weight · β bias
    Reduces:      (N, H, W) for each channel and component, weighted, and C for a responsibility; N in chunks
                  of `batch` images if `batch` is set (one chunk per worker).
    Train / eval: differ. Batch-independent: no.
    Running statistics: mean and Bessel-corrected variance of each channel, as for bn, and of each component
                  λ_j, (μ_j − μ) / √(σ² + ε) and (σ_j² + ε) / (σ² + ε), where μ and σ² are the batch's;
                  s ← s + w_t (new − s) with w_t from `momentum` (weight of the NEW batch, see
                  normbench.momentum). With several chunks `new` is the chunks' mean. Training reads
                  those of the components: expectation maximization starts from them, so that component j
                  stays component j from batch to batch.
    Numerics:     fp32 (fp64 for fp64 input), autocast or not. Components are fitted to the batch after it is
                  standardised in two passes; there E[z²] − E[z]² keeps its digits. A component's variance,
                  with ε, is at least 1/100 of its channel's: otherwise components of few positions shrink to
                  points. A component without positions keeps finite statistics and has weight 0. The backward
                  pass in training takes responsibilities and lower bounds as constants. It takes 5 to 30
                  times as long as batch norm: every step passes over the batch.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias, running_mean, running_var: (K·C,);  running_share: (K·J,)
        running_offset, running_ratio: (K·J, C);  num_batches_tracked: (K,), a scalar for K = 1

    Args:
        channels:   C, channels of one run.
        lanes:      K, stacked runs; 1 for a lone run.
        components: J ≥ 1. With 1 it is batch norm.
        iterations: T ≥ 1, steps of expectation and maximization for each batch.
        momentum:   weight of the new batch, or another form of `normbench.momentum`; one value or one per
                    lane.
        eps:        ε > 0; one value or one per lane.
        affine:     True, False, "weight" or "bias".
        track:      whether to keep running statistics. Without them every batch starts from the initial
                    components, in evaluation too.
        variance:   "unbiased": the running variance is Bessel-corrected, as in torch; "biased": it is not, as
                    in Keras and flax.
        batch:      images per statistic; must divide N. None: all of x.

    Raises:
        NormError: an argument out of range, N not a multiple of `batch`, or fewer than 2 J values per
                   statistic.

    Same as:    bn for components=1.
    Reference:  kalayeh2019 — Training Faster by Separating Modes of Variation in Batch-Normalized Models,
                TPAMI 2019, arXiv:1806.02892.
    Deviations: from the paper are the diagonal Gaussian mixture over positions, the weighted statistics and
                the sum with 1/√λ_j; no code of its authors is known. Ours are the rest. Components start at
                normal quantiles (j − ½)/J along the diagonal of the standardised channels, with variance 1
                and equal shares; the paper uses k-means++, which draws positions at random. Later batches
                start from the running components. ε and the lower bound of variances, also in the densities,
                the numbers of components and steps, and the running statistics are ours; so is that
                responsibilities have no gradient in training.
    """

    running_mean: Tensor | None
    running_var: Tensor | None

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        components: int = 3,
        iterations: int = 3,
        momentum: PerLaneMomentum = 0.1,
        eps: PerLane = 1e-5,
        affine: Affine = True,
        track: bool = True,
        variance: str = "unbiased",
        batch: int | None = None,
    ) -> None:
        super().__init__(channels, lanes, momentum=momentum, eps=eps, affine=affine, track=track, batch=batch)
        self.components = self.whole("components", components, most=1000)
        self.iterations = self.whole("iterations", iterations, most=1000)
        self.register_moments(variance)
        for name, initial in zip(Components._fields, (_shares, _offsets, _ratios), strict=True):
            make = partial(initial, lanes, components, channels)
            if track:
                self.register_statistic(f"running_{name}", make)
            else:
                self.register_buffer(f"running_{name}", make(), persistent=False)

    def normalize(self, x: Tensor) -> Tensor:
        x = self.for_products(x)
        with without_autocast(x):
            chunks = self.chunks(x.shape[0]) if self.by_batch else 1
            values = as_matrices(x, chunks, self.lanes)  # (L, C, m) with L = S·K
            mixed = self._by_batch(values, chunks) if self.by_batch else self._by_running(values)
            return self.scale_shift(from_matrices(mixed, x, chunks))

    def check(self, shape: Sequence[int]) -> None:
        self.chunks(shape[0])
        values = self.statistic_size(shape[0]) * positions(shape)
        if values < 2 * self.components:
            raise NormError(
                f"mixture: {self.components} components must share at least {2 * self.components} values; "
                f"got {values}. Use a larger batch, components ≤ {max(values // 2, 1)}, "
                "another norm, or leave this layer out"
            )

    def _by_batch(self, values: Tensor, chunks: int) -> Tensor:
        # no gradient through mean and scale of z: y does not depend on them, except at the lower bounds
        mean = values.detach().mean(2, keepdim=True)
        centred = values - mean
        squares = centred.detach().square()
        squares.clamp_(max=torch.finfo(squares.dtype).max)
        var = saturated(squares.mean(2, keepdim=True))
        eps = self._eps(values, chunks)
        scale = torch.rsqrt(var + eps)
        z = centred * scale
        squares.mul_(scale.square())
        logs, components = self._fit(z.detach(), squares, (eps * scale.square()).mT, chunks)
        if self.tracks:
            count = values.shape[2]
            correction = 1 if self.variance == "biased" else count / max(count - 1, 1)
            new = {"mean": mean, "var": saturated(var * correction), **components._asdict()}
            by_chunk = {name: torch.unflatten(t, 0, (chunks, -1)) for name, t in new.items()}
            self.move(**{f"running_{name}": over_chunks(t) for name, t in by_chunk.items()})
        mixed: Tensor = Mixed.apply(z, logs, *components)
        return mixed

    def _by_running(self, values: Tensor) -> Tensor:
        assert self.running_mean is not None and self.running_var is not None
        mean, var = (
            t.to(values.dtype).view(self.lanes, -1, 1) for t in (self.running_mean, self.running_var)
        )
        z = (values - mean) * torch.rsqrt(var + self._eps(values, 1))
        components = self._running(values, 1)
        return mix(z, expect(z, z.square(), components), components)

    @torch.no_grad()
    def _fit(self, z: Tensor, squares: Tensor, eps: Tensor, chunks: int) -> tuple[Tensor, Components]:
        """Log responsibilities, and the components that follow from them."""
        components = self._running(z, chunks)
        for _ in range(self.iterations):
            logs = expect(z, squares, components)
            components = maximize(z, squares, logs, eps)
        return logs, components

    def _running(self, values: Tensor, chunks: int) -> Components:
        """The running components, once per chunk."""
        buffers = (self.get_buffer(f"running_{name}") for name in Components._fields)
        lanes = (torch.unflatten(t.to(values.dtype), 0, (self.lanes, -1)) for t in buffers)
        return Components(*(t.repeat(chunks, *[1] * (t.dim() - 1)) for t in lanes))

    def _eps(self, values: Tensor, chunks: int) -> Tensor:
        """ε: (1, 1, 1), or (L, C, 1) if lanes differ."""
        eps = self.eps_along(values)
        if not isinstance(eps, Tensor):
            return values.new_full((1, 1, 1), eps)
        return eps.view(self.lanes, -1, 1).repeat(chunks, 1, 1)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, components={self.components}, iterations={self.iterations}"


def _shares(lanes: int, components: int, channels: int) -> Tensor:
    """Initial λ_j: equal shares."""
    return torch.full((lanes * components,), 1 / components)


def _offsets(lanes: int, components: int, channels: int) -> Tensor:
    """Initial (μ_j − μ) / √(σ² + ε): normal quantiles along the diagonal of the channels."""
    quantiles = [NormalDist().inv_cdf((j + 0.5) / components) for j in range(components)]
    return torch.tensor([[q / channels**0.5] * channels for q in quantiles]).repeat(lanes, 1)  # (K·J, C)


def _ratios(lanes: int, components: int, channels: int) -> Tensor:
    """Initial (σ_j² + ε) / (σ² + ε): 1."""
    return torch.ones(lanes * components, channels)
