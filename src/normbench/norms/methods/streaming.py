"""Streaming normalization (key: streaming)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from normbench.errors import NormError
from normbench.norms.core import Affine
from normbench.norms.ema import PerLaneMomentum
from normbench.norms.lanes import PerLane, along_channels
from normbench.norms.registry import register
from normbench.norms.running import over_chunks
from normbench.norms.stateful import Send, Standardize, StatefulNorm

LENGTHS = ("long", "short")


@register(
    "streaming",
    family="batch",
    reduces="N, H, W",
    reference="liao2016",
    batch_statistics=True,
    eval_differs=True,
    exact_gradient=False,
)
class StreamingNorm(StatefulNorm):
    """Streaming normalization: statistics and their gradients are mixed with those of earlier batches.

        y = γ (x − ŝ_μ) / ŝ_σ + β
        ŝ = α₁ s_long + α₂ s_short                      for s_μ = μ and s_σ = σ
        ĝ = β₁ g_long + β₂ g_short + β₃ g               for g = ∂L/∂ŝ, sent on as the gradient of s
        s_short = mean of s since the last weight update, the present batch included
        s_long ← κ₁ s_long + κ₂ s_short                 at a weight update; likewise g_short, g_long

    Symbols:      μ mean · σ deviation: √(mean |x − μ|² + ε) or mean |x − μ| + ε · γ weight · β bias ·
                  α₂ = 1 − α₁ · β₃ = 1 − β₁ − β₂ · κ₂ = 1 − κ₁ momentum
    Reduces:      (N, H, W) for each channel; N in chunks of `batch` images if that is set (one chunk per
                  worker).
    Train / eval: differ: evaluation uses s_long alone. Batch-independent: no.
    Running statistics: long and short statistic and gradient, each (μ, σ) by channel. Until the first weight
                  update training uses s_short for s_long, and evaluation the initial 0 and 1. From then on
                  s_long ← s_long + w_t (s_short − s_long), with w_t from `momentum` and w_1 = 1. The backward
                  pass moves g_long and g_short: run it once after each training pass. With several workers,
                  each mixes in its own s and g; the state moves to their mean.
    Numerics:     fp32 (fp64 for fp64 input), in two passes. The backward pass is not the gradient of the
                  forward pass, by design: α does not enter it, and g also comes from other batches.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias: (K·C,);  long_statistic, short_statistic, long_gradient, short_gradient: (K·C, 2);
        num_batches_tracked, num_gradients_tracked: (K,), a scalar for K = 1

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        momentum: κ₂ (and κ₄ of the gradients), weight of the new in s_long, or another form of
                  `normbench.momentum`; one value or one per lane. The paper's κ₁ = κ₃ = 0.7 is 0.3 here.
        alpha1:   α₁ in [0, 1], share of s_long in ŝ. The paper: 0.5 in feed-forward nets.
        beta1:    β₁ ≥ 0, share of g_long in ĝ. The paper: 0.5 in feed-forward nets.
        beta2:    β₂ ≥ 0, share of g_short, β₁ + β₂ ≤ 1. The paper: 0.5 in feed-forward nets.
        p:        2 or 1: the order of the deviation.
        forwards_per_step: training passes per weight update; above 1 if gradients are accumulated over
                  micro-batches.
        eps:      ε > 0, of dimension x² for p = 2 and x for p = 1; one value or one per lane.
        affine:   True, False, "weight" or "bias".
        batch:    images per statistic; must divide N. None: all of x.

    Raises:
        NormError: an argument out of range, N not a multiple of `batch`, or one value per statistic.

    Reference:  liao2016 — Streaming Normalization, CBMM Memo 57, arXiv:1610.06160. Values as its first
                author's PyTorch port lists them for the paper (github.com/liaoq/StreamingNorm).
    Deviations: the port detects weight updates by a parameter that the optimiser moves; here their rhythm is
                an argument. The port's evaluation mixes the last batch into ŝ; here it uses s_long alone. So
                evaluation before the first weight update uses the initial 0 and 1; the port would use the
                last batch. The port divides by std + 2ε with a Bessel-corrected std; here the variance is
                biased and ε is inside the root, so that α₁ = β₁ = β₂ = 0 is batch norm. Statistics and
                gradients share one κ, as in all settings that the port lists. The rule for several workers
                is ours.
    """

    long_statistic: Tensor
    num_gradients_tracked: Tensor

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        alpha1: float = 0.5,
        beta1: float = 0.5,
        beta2: float = 0.5,
        p: int = 2,
        forwards_per_step: int = 1,
        momentum: PerLaneMomentum = 0.3,
        eps: PerLane = 1e-5,
        affine: Affine = True,
        batch: int | None = None,
    ) -> None:
        super().__init__(channels, lanes, momentum=momentum, eps=eps, affine=affine, batch=batch)
        self.alpha1 = self.share("alpha1", alpha1)
        self.beta1, self.beta2 = self.share("beta1", beta1), self.share("beta2", beta2)
        if beta1 + beta2 > 1:
            raise NormError(
                f"streaming: beta1 + beta2 must be ≤ 1, the rest is β₃; got {beta1} + {beta2}. Lower one"
            )
        self.p = self.choice("p", p, (1, 2))
        self.forwards_per_step = self.whole("forwards_per_step", forwards_per_step)
        for length in LENGTHS:
            self.register_statistic(f"{length}_statistic", partial(_zero_and_one, lanes * channels))
            self.register_statistic(f"{length}_gradient", partial(torch.zeros, lanes * channels, 2))
        self.register_statistic("num_gradients_tracked", self._no_batches)

    def normalize(self, x: Tensor) -> Tensor:
        if not self.by_batch:
            mean, deviation = self.long_statistic.unbind(1)
            return self.scale_shift((x - along_channels(mean, x)) / along_channels(deviation, x))
        z = Standardize.apply(self.by_chunk(x), self.p, self.eps_along, self._use)
        return self.scale_shift(z.flatten(0, 1))

    def _use(self, own: Tensor) -> tuple[Tensor, Send]:
        if not self.training:
            return own, lambda gradient: gradient
        mixed = self._stream("statistic", self.num_batches_tracked, own, self.alpha1, 1 - self.alpha1)
        return mixed, self._send

    def _send(self, gradient: Tensor) -> Tensor:
        return self._stream("gradient", self.num_gradients_tracked, gradient, self.beta1, self.beta2)

    @torch.no_grad()
    def _stream(self, name: str, seen: Tensor, new: Tensor, of_long: float, of_short: float) -> Tensor:
        """One step of a stream: (S, K·C, 2) → the same shape. `new` has the share 1 − of_long − of_short."""
        long, short = (self.get_buffer(f"{length}_{name}").view(self.lanes, -1) for length in LENGTHS)
        mine = new.reshape(-1, self.lanes, long.shape[1])  # (S, K, 2·C)
        place, period = (seen % self.forwards_per_step).view(-1, 1), self.forwards_per_step
        average = mine if period == 1 else short.lerp(mine, (place + 1).to(mine.dtype).reciprocal())
        settled = torch.where(seen.view(-1, 1) < period, average, long)
        mixed = of_long * settled + of_short * average + (1 - of_long - of_short) * mine
        seen += 1
        short.copy_(over_chunks(average))
        weight = self.average.weight(seen // period).to(long.dtype).unsqueeze(1)
        long.copy_(torch.where(place + 1 == period, long.lerp(short, weight), long))
        return mixed.view(new.shape)

    def extra_repr(self) -> str:
        own = f"alpha1={self.alpha1}, beta1={self.beta1}, beta2={self.beta2}, p={self.p}"
        return f"{super().extra_repr()}, {own}, forwards_per_step={self.forwards_per_step}"


def _zero_and_one(channels: int) -> Tensor:
    """The initial (μ, σ) of every channel: (K·C, 2)."""
    return torch.tensor([0.0, 1.0]).repeat(channels, 1)
