"""Iterative normalization (key: iternorm)."""

from __future__ import annotations

import torch
from torch import Tensor

from normbench.norms.core import Affine
from normbench.norms.ema import PerLaneMomentum
from normbench.norms.lanes import PerLane
from normbench.norms.registry import register
from normbench.norms.whitening import WhiteningNorm


@register(
    "iternorm",
    family="whitening",
    reduces="N, H, W",
    reference="huang2019",
    batch_statistics=True,
    absorbs_bias=True,
    eval_differs=True,
)
class IterNorm(WhiteningNorm):
    """Iterative normalization: groups of channels are whitened over a worker's batch by a few Newton steps.

        y = γ W (x − μ) + β,  W = P_T / √tr Σ                           Algorithm 1, training
        P_0 = I,  P_k = ½ (3 P_{k−1} − P_{k−1}³ Σ / tr Σ)
        μ, Σ over 𝒮 = {same group of d channels} × batch × H × W, Σ with ε I
        μ, W ← running statistics                                      evaluation

    Symbols:      μ mean (d) · Σ covariance (d × d, biased) · T iterations · γ weight · β bias · d group_size
    Reduces:      (N, H, W) for each group of channels; N in chunks of `batch` images if `batch` is set (one
                  chunk per worker).
    Train / eval: differ. Batch-independent: no.
    Running statistics: mean and whitening matrix, s ← s + w_t (new − s) with w_t from `momentum` (weight of
                  the NEW batch, see normbench.momentum). They start at 0 and I; with several chunks `new` is
                  the chunks' mean. Training never reads them.
    Numerics:     fp32 (fp64 for fp64 input), autocast or not. T steps reach Σ^(−1/2) only for directions
                  that hold more than about (2/3)^(2T) of the trace: iternorm is a regularised whitening. It
                  takes 2 to 20 times as long as batch norm; on small maps the 3 T products of small matrices,
                  and those of the backward pass, cost most.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias, running_mean: (K·C,);  running_whitening: (K·C/d, d, d)
        num_batches_tracked: (K,), a scalar for K = 1

    Args:
        channels:   C, channels of one run.
        lanes:      K, stacked runs; 1 for a lone run.
        iterations: T ≥ 0. The paper: 5. With 0, all channels of a group are divided by the same √tr Σ.
        group_size: d, channels whitened together; must divide C. None: the largest divisor of C up to 16.
                    With 1 it is batch norm in training.
        momentum:   weight of the new batch, or another form of `normbench.momentum`; one value or one per
                    lane.
        eps:        ε > 0; one value or one per lane.
        affine:     True, False, "weight" or "bias".
        track:      whether to keep running statistics. Without them evaluation uses the batch.
        batch:      images per statistic; must divide N. None: all of x.

    Attributes:
        group_size: the value in effect.

    Raises:
        NormError: an argument out of range, group_size not dividing C, N not a multiple of `batch`, or one
                   value per statistic.

    Same as:    bn for group_size=1.
    Reference:  huang2019 — Iterative Normalization: Beyond Standardization towards Efficient Whitening, CVPR
                2019, arXiv:1904.03441, Algorithm 1; code: huangleiBuaa/IterNorm-pytorch.
    Deviations: the same iterates are computed in coupled form, Y_k = P_k Σ / tr Σ besides P_k. The paper's
                recursion amplifies rounding without bound if cond Σ > 2.4 and T is large; the coupled form
                does not, and costs the same. As in the authors' code, evaluation averages W. Their default is
                one group of all channels; ours is that of dbn.
    """

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        iterations: int = 5,
        group_size: int | None = None,
        momentum: PerLaneMomentum = 0.1,
        eps: PerLane = 1e-5,
        affine: Affine = True,
        track: bool = True,
        batch: int | None = None,
    ) -> None:
        super().__init__(
            channels, lanes, group_size=group_size, momentum=momentum, eps=eps, affine=affine, track=track,
            batch=batch,
        )  # fmt: skip
        self.iterations = self.whole("iterations", iterations, least=0, most=1000)

    def whiten(self, covariance: Tensor, eps: float | Tensor) -> Tensor:
        identity = torch.eye(self.group_size, dtype=covariance.dtype, device=covariance.device)
        covariance = covariance + eps * identity
        trace = covariance.diagonal(dim1=1, dim2=2).sum(1).view(-1, 1, 1)
        coupled = covariance / trace  # Y_0; both sequences commute with Σ
        root = identity.expand_as(coupled)  # P_0
        for _ in range(self.iterations):
            step = torch.baddbmm(1.5 * identity, root, coupled, alpha=-0.5)  # ½ (3 I − P Y)
            coupled, root = coupled @ step, step @ root
        return root * torch.rsqrt(trace)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, iterations={self.iterations}"
