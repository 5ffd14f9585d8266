"""Decorrelated batch normalization (key: dbn)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from normbench.errors import NormError
from normbench.norms.lanes import positions
from normbench.norms.registry import register
from normbench.norms.whitening import WhiteningNorm


@register(
    "dbn",
    family="whitening",
    reduces="N, H, W",
    reference="huang2018",
    batch_statistics=True,
    absorbs_bias=True,
    eval_differs=True,
)
class DecorrelatedBatchNorm(WhiteningNorm):
    """Decorrelated batch normalization: groups of channels are whitened over a worker's batch.

        y = γ W (x − μ) + β,  W = (Σ + ε I)^(−1/2) = U Λ^(−1/2) Uᵀ          ZCA, training
        μ, Σ over 𝒮 = {same group of d channels} × batch × H × W
        μ, W ← running statistics                                      evaluation

    Symbols:      μ mean (d) · Σ covariance (d × d, biased) · U, Λ eigenvectors, eigenvalues of Σ + ε I ·
                  γ weight · β bias · d group_size
    Reduces:      (N, H, W) for each group of channels; N in chunks of `batch` images if `batch` is set (one
                  chunk per worker).
    Train / eval: differ. Batch-independent: no.
    Running statistics: mean and whitening matrix, s ← s + w_t (new − s) with w_t from `momentum` (weight of
                  the NEW batch, see normbench.momentum). They start at 0 and I; with several chunks `new` is
                  the chunks' mean. Training never reads them.
    Numerics:     fp32 (fp64 for fp64 input), autocast or not. Σ is decomposed before ε is added, and
                  negative eigenvalues count as 0. The backward pass is the closed form
                  dW = U (F ∘ Uᵀ dΣ U) Uᵀ, F_ij = −1 / (√λ_i √λ_j (√λ_i + √λ_j)): no difference of
                  eigenvalues is in a denominator, so it is exact where they are equal. On a GPU the
                  decomposition waits for the device. It takes 2 to 15 times as long as batch norm: 4 d
                  operations per value forward, 6 d backward, and many small calls on small maps.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias, running_mean: (K·C,);  running_whitening: (K·C/d, d, d)
        num_batches_tracked: (K,), a scalar for K = 1

    Args:
        channels:   C, channels of one run.
        lanes:      K, stacked runs; 1 for a lone run.
        group_size: d, channels whitened together; must divide C. None: the largest divisor of C up to 16; for
                    a prime C > 16 that is 1, which is batch norm. The authors' wide ResNets: 16.
        momentum:   weight of the new batch, or another form of `normbench.momentum`; one value or one per
                    lane.
        eps:        ε > 0; one value or one per lane.
        affine:     True, False, "weight" or "bias".
        track:      whether to keep running statistics. Without them evaluation uses the batch.
        batch:      images per statistic; must divide N. None: all of x.

    Attributes:
        group_size: the value in effect.

    Raises:
        NormError: an argument out of range, group_size not dividing C, N not a multiple of `batch`, or fewer
                   than 2 d values per statistic.

    Same as:    bn for group_size=1.
    Reference:  huang2018 — Decorrelated Batch Normalization, CVPR 2018, arXiv:1804.08450, §3; code:
                princeton-vl/DecorrelatedBN.
    Deviations: in training two: groups of unequal size are refused, and ε is torch's for batch norm (the
                authors' code: 1e-7, below the resolution of fp32 covariances). As there, evaluation averages
                W, not Σ: with d = 1 it averages 1/σ, while batch norm averages σ².
    """

    waits_for_host = "eigendecomposition"

    def whiten(self, covariance: Tensor, eps: float | Tensor) -> Tensor:
        whitening: Tensor = InverseRoot.apply(covariance, eps)
        return whitening

    def check(self, shape: Sequence[int]) -> None:
        super().check(shape)
        values = self.statistic_size(shape[0]) * positions(shape)
        if values < 2 * self.group_size:
            raise NormError(
                f"dbn: a covariance of {self.group_size} channels must average at least "
                f"{2 * self.group_size} values; got {values}. Use a larger batch, "
                f"group_size ≤ {max(values // 2, 1)}, iternorm, or leave this layer out"
            )


class InverseRoot(torch.autograd.Function):
    """(Σ + ε I)^(−1/2) of symmetric matrices; forward and backward are exact for equal eigenvalues too.

    Args of apply:
        covariance: Σ, (L, d, d). A matrix that is not finite gives NaN; the others are not affected.
        eps:        ε > 0, one number or (L, 1, 1).
    """

    @staticmethod
    def forward(ctx: Any, covariance: Tensor, eps: float | Tensor) -> Tensor:
        finite = covariance.isfinite().all(2, keepdim=True).all(1, keepdim=True)
        identity = torch.eye(covariance.shape[1], dtype=covariance.dtype, device=covariance.device)
        # LAPACK raises on NaN, for the whole call
        values, vectors = torch.linalg.eigh(torch.where(finite, covariance, identity))
        roots = torch.sqrt(values.clamp_min(0).unsqueeze(1) + eps)  # (L, 1, d)
        ctx.save_for_backward(roots, vectors)
        return torch.where(finite, (vectors / roots) @ vectors.mT, torch.nan)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        roots, vectors = ctx.saved_tensors
        others = roots.mT
        inner = (vectors.mT @ grad @ vectors) / (-roots * others * (roots + others))
        return vectors @ inner @ vectors.mT, None
