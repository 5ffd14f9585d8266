"""Batch renormalization (key: brn)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from normbench.errors import NormError
from normbench.norms.core import Affine
from normbench.norms.ema import MovingAverage, PerLaneMomentum, lane_momenta
from normbench.norms.lanes import PerLane
from normbench.norms.methods.bn import BatchNorm
from normbench.norms.registry import register
from normbench.norms.running import over_chunks
from normbench.norms.spatial_moments import saturated


@register(
    "brn",
    family="batch",
    reduces="N, H, W",
    reference="ioffe2017",
    batch_statistics=True,
    absorbs_bias=True,
    eval_differs=True,
    exact_gradient=False,
)
class BatchRenorm(BatchNorm):
    """Batch renormalization: batch norm, corrected towards averages over earlier batches.

        y = γ ((x − μ_B) / σ_B · r + d) + β                            Algorithm 1
        μ_B, σ_B = √(var + ε) over 𝒮 = {same channel} × batch × H × W
        r = clip(σ_B / σ, 1/R, R),  d = clip((μ_B − μ) / σ, −D, D)      constants to the backward pass
        μ ← μ + w_t (μ_B − μ),  σ ← σ + w_t (σ_B − σ)                   after use

    Symbols:      μ_B mean · var biased · μ renorm_mean · σ renorm_std · R, D limits of r and d · γ weight
                  · β bias
    Reduces:      (N, H, W) for each channel; N in chunks of `batch` images if that is set (one chunk per
                  worker). With R = 1, D = 0 it is batch norm; unclipped it is (x − μ) / σ.
    Train / eval: differ; evaluation is batch norm's, by running statistics. Evaluation with batch statistics
                  keeps r and d. Batch-independent: no. If nothing is clipped, the output is
                  batch-independent, its gradient is not.
    Limits:       R rises linearly from 1 to r_max between the shares `start` and `r_end` of the run, D from 0
                  to d_max between `start` and `d_end`; `begin_step` tells the share. If nobody calls it, the
                  limits are r_max and d_max from the first step on, as in Keras.
    Running statistics: for evaluation those of bn, with weight `momentum`; training never reads them. Besides
                  these, μ and σ start at 0 and 1 and move with weight `renorm_momentum`, with several chunks
                  to the mean over chunks. A state_dict of bn gives μ and σ its running statistics.
    Numerics:     fp32 (fp64 for fp64 input); ε inside both roots, so σ ≥ √ε; a smaller σ is raised to √ε. It
                  takes one more pass over x than bn: r and d are folded into γ and β.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias, running_mean, running_var, renorm_mean, renorm_std: (K·C,)
        num_batches_tracked: (K,), a scalar for K = 1

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        r_max:    R in the end, ≥ 1. The paper: 3.
        d_max:    D in the end, ≥ 0. The paper: 5.
        start:    share of the run until which R = 1 and D = 0. The paper: 5,000 steps.
        r_end:    share of the run from which R = r_max. The paper: 40,000 steps.
        d_end:    share of the run from which D = d_max. The paper: 25,000 steps.
        renorm_momentum: weight of the new batch in μ and σ, or another form; one value or one per lane. The
                  paper: 0.01.
        momentum: weight of the new batch in the running statistics of evaluation, or another form of
                  `normbench.momentum`; one value or one per lane. The paper: 0.01.
        eps:      ε > 0; one value or one per lane. Keras: 1e-3.
        affine:   True, False, "weight" or "bias".
        variance: "unbiased": the running variance is Bessel-corrected, as in torch; "biased": it is not, as
                  in Keras and flax.
        batch:    images per statistic; must divide N. None: all of x.

    Raises:
        NormError: an argument out of range, N not a multiple of `batch`, or one value per statistic.

    Reference:  ioffe2017 — Batch Renormalization: Towards Reducing Minibatch Dependence in Batch-Normalized
                Models, NeurIPS 2017, arXiv:1702.03275, Algorithm 1.
    Deviations: the paper's step numbers become shares of 200,000, about its longest run (Figure 2: 210,000).
                The paper relaxes the limits gradually; here that is linear. Both momenta are debiased; the
                paper's are not. After 5,000 steps of plain batch norm the difference is a factor
                1 − 0.99^5000, but short runs would renormalize by the initial 0 and 1. The paper evaluates
                with μ and σ. Here evaluation averages variances as bn does, so that norms differ in training
                alone.
    """

    renorm_mean: Tensor
    renorm_std: Tensor
    r_limit: Tensor
    d_limit: Tensor

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        r_max: float = 3.0,
        d_max: float = 5.0,
        start: float = 0.025,
        r_end: float = 0.2,
        d_end: float = 0.125,
        renorm_momentum: PerLaneMomentum = "debiased:0.01",
        momentum: PerLaneMomentum = "debiased:0.01",
        eps: PerLane = 1e-3,
        affine: Affine = True,
        variance: str = "unbiased",
        batch: int | None = None,
    ) -> None:
        super().__init__(
            channels, lanes, momentum=momentum, eps=eps, affine=affine, batch=batch, variance=variance
        )
        self.number("r_max", r_max, least=1)
        self.number("d_max", d_max, least=0)
        self.share("start", start)
        for name, end in (("r_end", r_end), ("d_end", d_end)):
            if self.share(name, end) < start:
                raise NormError(
                    f"brn: start and {name} must be shares of the run, 0 ≤ start ≤ {name} ≤ 1; "
                    f"got start={start!r}, {name}={end!r}"
                )
        self.r_max, self.d_max, self.start, self.r_end, self.d_end = r_max, d_max, start, r_end, d_end
        self.register_buffer("r_limit", torch.tensor(r_max, dtype=torch.float64), persistent=False)
        self.register_buffer("d_limit", torch.tensor(d_max, dtype=torch.float64), persistent=False)
        self.renorm_average = MovingAverage(lane_momenta("brn: renorm_momentum", renorm_momentum, lanes))
        self.register_statistic("renorm_mean", partial(torch.zeros, lanes * channels))
        self.register_statistic("renorm_std", partial(torch.ones, lanes * channels))

    def averages(self) -> Iterable[MovingAverage]:
        return (*super().averages(), self.renorm_average)

    @property
    def kernel_momentum(self) -> float | None:
        return None

    def begin_step(self, step: int, steps: int) -> None:
        super().begin_step(step, steps)
        done = step / steps
        self.renorm_average.begin_step(step, steps)
        self.r_limit.fill_(1 + (self.r_max - 1) * ramp(done, self.start, self.r_end))
        self.d_limit.fill_(self.d_max * ramp(done, self.start, self.d_end))

    def _kernel(
        self, x: Tensor, mean: Tensor | None, var: Tensor | None, momentum: float = 1.0, copies: int = 1
    ) -> Tensor:
        assert mean is not None and var is not None
        # momentum 1 makes the kernel return the batch's own mean and unbiased variance, without gradients
        F.batch_norm(x.detach(), mean, var, training=True, momentum=1.0)
        r, d = self._correction(mean, var, x.numel() // x.shape[1], copies)
        weight, bias = (p if p is None or copies == 1 else p.repeat(copies) for p in self.fused)
        if weight is not None:
            r, d = weight * r, weight * d
        if bias is not None:
            d = d + bias
        return F.batch_norm(x, None, None, r, d, training=True, eps=self.eps)

    def _correction(self, mean: Tensor, var: Tensor, values: int, copies: int) -> tuple[Tensor, Tensor]:
        """r and d of every chunk, (S·K·C,), from the moments of the equalized x in the same shape."""
        mean, var = self._unequalized(mean.view(copies, -1), var.view(copies, -1))
        std = self._deviation(var, values)
        running = self.renorm_std.clamp(min=self.eps_along(var) ** 0.5)
        r = (std / running).clamp(1 / self.r_limit, self.r_limit)
        d = ((mean - self.renorm_mean) / running).clamp(-self.d_limit, self.d_limit)
        return r.flatten(), d.flatten()

    def _deviation(self, var: Tensor, values: int) -> Tensor:
        """σ_B from Bessel-corrected variances of that many values: (S, K·C)."""
        return (saturated(var) * ((values - 1) / values) + self.eps_along(var)).sqrt()

    def _keep(self, mean: Tensor, var: Tensor, values: int) -> None:
        super()._keep(mean, var, values)
        assert self.num_batches_tracked is not None
        average = self.renorm_average
        weight = average.weight(self.num_batches_tracked)
        average.update(self.renorm_mean, over_chunks(mean), weight)
        average.update(self.renorm_std, over_chunks(self._deviation(var, values)), weight)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """As torch's; μ and σ of a state that bn saved start from its running statistics."""
        mean, var = (state_dict.get(f"{prefix}running_{name}") for name in ("mean", "var"))
        if f"{prefix}renorm_mean" not in state_dict and mean is not None and var is not None:
            var = var.to(self.renorm_std).view(1, -1)
            state_dict[f"{prefix}renorm_mean"] = mean
            state_dict[f"{prefix}renorm_std"] = (var + self.eps_along(var)).sqrt().view(-1)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, r_max={self.r_max}, d_max={self.d_max}"


def ramp(done: float, start: float, end: float) -> float:
    """How far a limit has moved: 0 until `start`, 1 from `end` on, linear in between.

    >>> [ramp(done, 0.25, 0.75) for done in (0.1, 0.5, 0.9)]
    [0.0, 0.5, 1.0]
    """
    if start < done < end:
        return (done - start) / (end - start)
    return float(done >= end)
