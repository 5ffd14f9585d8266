"""What norms share whose training reads what earlier batches left, some of them in the backward pass too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from normbench.norms.ema import Start
from normbench.norms.lanes import spread
from normbench.norms.running import RunningNorm
from normbench.norms.spatial_moments import saturated

#: What `Standardize` asks of a layer: the gradient of the batch's own statistics for that of those used, and
#: those used, with it, for the batch's own.
Send = Callable[[Tensor], Tensor]
Use = Callable[[Tensor], tuple[Tensor, Send]]


class StatefulNorm(RunningNorm):
    """Base of norms whose state is part of training.

    A training pass moves the state and so does its backward pass: each is to run once and in turn, so neither
    activation checkpointing nor a second backward pass fits. A backward pass that never comes only leaves its
    statistics out. With several workers each normalizes by its own images and the shared state, and the state
    takes the workers' mean.

    The first batch takes the place of the initial values whatever the momentum: training that reads 0 and 1
    in place of statistics would start from an arbitrary scale.
    """

    first_batch: ClassVar[Start] = "replace"

    num_batches_tracked: Tensor

    @property
    def fresh(self) -> Tensor:
        """Whether no batch has been counted yet, at every channel: (K·C,)."""
        return spread(self.num_batches_tracked.view(-1) == 0, self.channels)


class Divide(torch.autograd.Function):
    """z = x / s with s held by the layer; ∂L/∂x = (g − p z) / s, where the layer says what p is.

    The gradient of z = x / √(mean x²) has p = ⟨g, z⟩, the mean of g z over what s averages. A layer whose s
    is not that of the batch makes its p out of ⟨g, z⟩ and of what it remembers.

    Shape:
        x: (S, B, K·C, *spatial);  s: (S, K·C);  project: ⟨g, z⟩ → p, both (S, K·C)
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, s: Tensor, project: Callable[[Tensor], Tensor]) -> Tensor:
        inverse = along_chunks(s.reciprocal(), x)
        z = x * inverse
        ctx.save_for_backward(z, inverse)
        ctx.project = project
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        z, inverse = ctx.saved_tensors
        p = ctx.project(chunk_mean(g * z))
        return (g - z * along_chunks(p, z)).mul_(inverse), None, None


class Standardize(torch.autograd.Function):
    """z = (x − μ̂) / σ̂ with statistics that a layer makes of the batch's own μ and σ, and of their gradient.

    `use` gets (μ, σ) and returns (μ̂, σ̂) and what turns ∂L/∂(μ̂, σ̂) into that of (μ, σ), which is then sent
    back through them.

    Shape:
        x: (S, B, K·C, *spatial) → z: the same;  all statistics and their gradients: (S, K·C, 2)

    Args:
        p:   2 for σ = √(mean (x − μ)² + ε), 1 for σ = mean |x − μ| + ε.
        eps: ε for statistics (S, K·C), see `Norm.eps_along`.
        use: see above.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: int, eps: Callable[[Tensor], float | Tensor], use: Use) -> Tensor:
        own_mean = chunk_mean(x)
        z = x - along_chunks(own_mean, x)
        deviation = chunk_norm(z, p) + eps(own_mean)
        own = torch.stack([own_mean, deviation.sqrt() if p == 2 else deviation], 2)
        used, ctx.send = use(own)
        mean, deviation = used.unbind(2)
        z.add_(along_chunks(own_mean - mean, z)).mul_(along_chunks(deviation.reciprocal(), z))
        ctx.save_for_backward(x if p == 1 else None, z, own, used)
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, z, own, used = ctx.saved_tensors
        own_mean, own_deviation = own.unbind(2)
        mean, deviation = used.unbind(2)
        values = z.numel() // mean.numel()
        sums = torch.stack([chunk_mean(g), chunk_mean(g * z)], 2) * -values
        to_mean, to_deviation = (ctx.send(sums / deviation.unsqueeze(2)) / values).unbind(2)
        through = g * along_chunks(deviation.reciprocal(), g)
        if x is None:  # ∂σ/∂x = (x − μ) / (m σ)
            slope, of_slope = z, to_deviation * deviation / own_deviation
            shift = to_mean + to_deviation * (mean - own_mean) / own_deviation
        else:  # ∂σ/∂x = (sign − mean of sign) / m
            slope, of_slope = (x - along_chunks(own_mean, x)).sign_(), to_deviation
            shift = to_mean - to_deviation * chunk_mean(slope)
        through.addcmul_(slope, along_chunks(of_slope, g)).add_(along_chunks(shift, g))
        return through, None, None, None


def chunk_mean(x: Tensor) -> Tensor:
    """Mean of every channel and chunk: (S, B, K·C, *spatial) → (S, K·C)."""
    return x.mean((1, *range(3, x.dim())))


def chunk_norm(x: Tensor, p: int) -> Tensor:
    """Mean |x|^p of every channel and chunk: (S, B, K·C, *spatial) → (S, K·C).

    PERF: without the copy of x that a power would be.
    """
    axes = (1, *range(3, x.dim()))
    norm: Tensor = torch.linalg.vector_norm(x, p, axes)
    return saturated((norm if p == 1 else norm.square()) * (norm.numel() / x.numel()))


def along_chunks(statistic: Tensor, x: Tensor) -> Tensor:
    """View a statistic (S, K·C) so that it broadcasts over x: (S, B, K·C, *spatial)."""
    return statistic.view(statistic.shape[0], 1, -1, *(1,) * (x.dim() - 3))
