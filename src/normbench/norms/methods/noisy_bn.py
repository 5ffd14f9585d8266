"""Noisy batch normalization (key: noisy_bn)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from normbench import ranks, rng
from normbench.norms.core import Affine
from normbench.norms.ema import PerLaneMomentum
from normbench.norms.lanes import PerLane, along_channels, per_lane
from normbench.norms.methods.bn import BatchNorm
from normbench.norms.registry import register


@register(
    "noisy_bn",
    family="batch",
    reduces="N, H, W",
    reference="santurkar2018",
    batch_statistics=True,
    absorbs_bias=True,
    eval_differs=True,
)
class NoisyBatchNorm(BatchNorm):
    """Noisy batch normalization: batch norm, then noise whose distribution changes at every step.

        y = s ∘ bn(x) + m                                              training
        y = bn(x) with running statistics                              evaluation
        m ~ U(μ_c − r_μ, μ_c + r_μ),  s ~ N(σ_c, r_σ²)                   for every image, channel c, position
        μ_c ~ U(−n_μ, n_μ),  σ_c ~ U(1, n_σ)                             for every step and channel c

    It restores the internal covariate shift that batch norm was meant to remove: an experiment, not a remedy.

    Symbols:      n_μ n_mu · n_σ n_sigma · r_μ r_mu · r_σ r_sigma · bn with γ weight, β bias
    Reduces:      (N, H, W) for each channel; N in chunks of `batch` images if that is set (one chunk per
                  worker). All chunks of a step share μ_c and σ_c.
    Train / eval: differ. Batch-independent: no.
    Running statistics: those of bn, untouched by the noise. Of these, training reads the number of batches
                  seen, never mean or variance.
    Random numbers: functions of the lane's seed, the layer's site, the number of batches seen, and channel,
                  image and position (normbench.rng). So a saved layer continues with the same noise. Layers
                  of equal seed and site get equal noise: if no network sets `site`, set a different one for
                  each layer.
    Numerics:     fp32 (fp64 for fp64 input). 10 to 20 times bn's time on a CPU for large inputs: a hash and
                  an inverse error function per value.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias, running_mean, running_var: (K·C,);  num_batches_tracked: (K,), a scalar for K = 1

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        n_mu:     n_μ ≥ 0, bound of the noise's mean.
        n_sigma:  n_σ ≥ 1, upper bound of the noise's scale.
        r_mu:     r_μ ≥ 0, half the width of the noise around its mean.
        r_sigma:  r_σ ≥ 0, standard deviation of the noise's scale.
        momentum: weight of the new batch, or another form of `normbench.momentum`; one value or one per lane.
        eps:      ε > 0; one value or one per lane.
        affine:   True, False, "weight" or "bias".
        variance: "unbiased": the running variance is Bessel-corrected, as in torch; "biased": it is not, as
                  in Keras and flax.
        batch:    images per statistic; must divide N. None: all of x.
        seeds:    one per lane; None: 0 for each.

    Raises:
        NormError: an argument out of range, N not a multiple of `batch`, or one value per statistic.

    Same as:    bn for n_mu=0, n_sigma=1, r_mu=0, r_sigma=0.
    Reference:  santurkar2018 — How Does Batch Normalization Help Optimization?, NeurIPS 2018,
                arXiv:1805.11604, §2.1 and the appendix's algorithm for the noise.
    Deviations: distributions and constants were written down from memory and not checked against the paper's
                text; r_σ is taken as a standard deviation. s has 24 random bits, so |s − σ_c| < 5.5 r_σ.
    """

    keys: Tensor

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        n_mu: float = 0.5,
        n_sigma: float = 1.25,
        r_mu: float = 0.1,
        r_sigma: float = 0.1,
        momentum: PerLaneMomentum = 0.1,
        eps: PerLane = 1e-5,
        affine: Affine = True,
        variance: str = "unbiased",
        batch: int | None = None,
        seeds: Sequence[int] | None = None,
    ) -> None:
        super().__init__(
            channels, lanes, momentum=momentum, eps=eps, affine=affine, batch=batch, variance=variance
        )
        for name, value, least in (
            ("n_mu", n_mu, 0), ("n_sigma", n_sigma, 1), ("r_mu", r_mu, 0), ("r_sigma", r_sigma, 0)
        ):  # fmt: skip
            self.number(name, value, least=least)
        self.n_mu, self.n_sigma, self.r_mu, self.r_sigma = n_mu, n_sigma, r_mu, r_sigma
        self.seeds = per_lane("noisy_bn: seeds", 0 if seeds is None else seeds, lanes)
        for seed in self.seeds:
            self.whole("seeds", seed, least=-(2**63))
        self.register_buffer("keys", self._keys(), persistent=False)

    @property
    def site(self) -> str:
        """The layer's place in a network; the noise depends on it."""
        return self._site

    @site.setter
    def site(self, name: str) -> None:
        self._site = name
        self.keys = self._keys().to(self.keys.device)

    _site = ""

    def normalize(self, x: Tensor) -> Tensor:
        y = super().normalize(x)
        if not self.training:
            return y
        scale, shift = self._noise(y)
        return y * scale + shift

    def _keys(self) -> Tensor:
        return rng.lane_keys(self.seeds, f"noisy_bn/{self.site}")

    def _noise(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """s and m of this step, each like y."""
        step = self.num_batches_tracked
        assert step is not None
        wide = rng.uniform(self.keys, step, 0, count=2 * self.channels, dtype=y.dtype)
        mean, deviation = along_channels(wide.view(-1), y).unflatten(1, (self.lanes, 2, -1)).unbind(2)
        count = y.numel() // self.lanes
        first = ranks.part_number() * count
        own = rng.uniform(self.keys, step, 1, count=count, first=first, dtype=torch.float64)
        flat, normal = (
            part.view(self.lanes, y.shape[0], -1, *y.shape[2:]).transpose(0, 1) for part in _two(own, y.dtype)
        )
        shift = flat.mul_(2 * self.r_mu).add_(self.n_mu * (2 * mean - 1) - self.r_mu)
        scale = normal.mul_(self.r_sigma).add_(1 + (self.n_sigma - 1) * deviation)
        return scale.flatten(1, 2), shift.flatten(1, 2)

    def extra_repr(self) -> str:
        noise = f"n_mu={self.n_mu}, n_sigma={self.n_sigma}, r_mu={self.r_mu}, r_sigma={self.r_sigma}"
        return f"{super().extra_repr()}, {noise}"


def _two(uniform: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A uniform and a standard normal number from every uniform number of 53 bits. PERF: hashing costs most.

    29 bits make the uniform number, 24 bits the normal one. The 24 are taken at the middle of their interval:
    0 would give −∞, and more bits would round to 1 in fp32.
    """
    bits = uniform.mul_(2.0**29)
    first = bits.floor()
    second = (bits - first).to(dtype)
    normal = second.mul_(2).add_(2.0**-24 - 1).erfinv_().mul_(math.sqrt(2))
    return first.mul_(2.0**-29).to(dtype), normal
