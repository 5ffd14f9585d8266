"""What norms share whose training reads statistics of earlier batches, forward or backward."""

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

#: What a layer gives `Standardize`. Send: the gradient of the statistics used → that of the batch's own.
#: Use: the batch's own statistics → those used, and a Send.
Send = Callable[[Tensor], Tensor]
Use = Callable[[Tensor], tuple[Tensor, Send]]


class StatefulNorm(RunningNorm):
    """Base of norms whose state is part of training.

    A forward pass in training moves the state, and so does its backward pass. Each must run once, in turn:
    use neither activation checkpointing nor a second backward pass. A missing backward pass only leaves its
    statistics out. With several workers, each normalizes with its own images and the shared state; the state
    then moves to the mean over workers.

    The first batch replaces the initial values, whatever the momentum. Otherwise training would start with
    the arbitrary scale of the initial 0 and 1.
    """

    first_batch: ClassVar[Start] = "replace"

    num_batches_tracked: Tensor

    @property
    def fresh(self) -> Tensor:
        """Whether no batch has been counted yet, per channel: (K·C,)."""
        return spread(self.num_batches_tracked.view(-1) == 0, self.channels)


class Divide(torch.autograd.Function):
    """z = x / s with s given by the layer; ∂L/∂x = (g − p z) / s with p given by the layer.

    The gradient of z = x / √(mean x²) has p = ⟨g, z⟩, the mean of g z over the values that s averages. A
    layer whose s is not that of the batch computes p from ⟨g, z⟩ and its state.

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
    """z = (x − μ̂) / σ̂ with statistics that a layer computes from the batch's own μ and σ.

    `use` gets (μ, σ). It returns (μ̂, σ̂) and a function from ∂L/∂(μ̂, σ̂) to ∂L/∂(μ, σ), which then goes
    back through μ and σ to x.

    Shape:
        x: (S, B, K·C, *spatial) → z: the same;  all statistics and their gradients: (S, K·C, 2)

    Args:
        p:   2 for σ = √(mean (x − μ)² + ε), 1 for σ = mean |x − μ| + ε.
        eps: ε for statistics (S, K·C), see `Norm.eps_along`.
        use: as above.
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
    """Mean per channel and chunk: (S, B, K·C, *spatial) → (S, K·C)."""
    return x.mean((1, *range(3, x.dim())))


def chunk_norm(x: Tensor, p: int) -> Tensor:
    """Mean |x|^p per channel and chunk: (S, B, K·C, *spatial) → (S, K·C).

    PERF: x.pow(p) would copy x.
    """
    axes = (1, *range(3, x.dim()))
    norm: Tensor = torch.linalg.vector_norm(x, p, axes)
    return saturated((norm if p == 1 else norm.square()) * (norm.numel() / x.numel()))


def along_chunks(statistic: Tensor, x: Tensor) -> Tensor:
    """View a statistic (S, K·C) so that it broadcasts over x: (S, B, K·C, *spatial)."""
    return statistic.view(statistic.shape[0], 1, -1, *(1,) * (x.dim() - 3))
