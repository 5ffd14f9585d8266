"""Gaussian mixtures of standardised batches: expectation, maximization, and normalization by components."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: The least share in a division: too small to matter, above 0 in fp32.
TINY = 1e-30
#: The least variance of a component, as a fraction of the batch's in the same channel.
NARROW = 0.01


class Components(NamedTuple):
    """Gaussian components of L standardised batches.

    Attributes:
        share:  λ_j: (L, J).
        offset: δ_j = (μ_j − μ) / √(σ² + ε): (L, J, C).
        ratio:  r_j = (σ_j² + ε) / (σ² + ε): (L, J, C).
    """

    share: Tensor
    offset: Tensor
    ratio: Tensor


def expect(z: Tensor, squares: Tensor, components: Components) -> Tensor:
    """Log responsibilities of every position of z: (L, C, m) → (L, J, m)."""
    share, offset, ratio = components
    precision = 1 / ratio
    constant = share.clamp_min(TINY).log() - 0.5 * (ratio.log() + offset.square() * precision).sum(2)
    linear = torch.baddbmm(constant.unsqueeze(2), offset * precision, z)
    return torch.baddbmm(linear, precision, squares, alpha=-0.5).log_softmax(1)


def maximize(z: Tensor, squares: Tensor, logs: Tensor, eps: Tensor) -> Components:
    """The components that fit given responsibilities best; ε in units of σ² + ε."""
    nu = logs.softmax(2)  # p / Σ p over positions, finite even where every p is 0
    offset = nu @ z.mT
    ratio = nu @ squares.mT - offset.square() + eps
    return Components(logs.exp().mean(2), offset, ratio.clamp_min(NARROW))


def mix(z: Tensor, logs: Tensor, components: Components) -> Tensor:
    """Σ_j p_j / √λ_j (z − δ_j) / √r_j: (L, C, m)."""
    weights, scale = weigh(logs, components.share), torch.rsqrt(components.ratio)
    return torch.baddbmm(z * (scale.mT @ weights), (components.offset * scale).mT, weights, alpha=-1)


def weigh(logs: Tensor, share: Tensor) -> Tensor:
    """p_j / √λ_j: (L, J, m)."""
    return logs.exp() * torch.rsqrt(share.clamp_min(TINY)).unsqueeze(2)


class Mixed(torch.autograd.Function):
    """Σ_j p_j / √λ_j u_j, u_j = (z − δ_j) / √r_j, with δ and r functions of z, p and λ constants.

    Backward, with w_j = p_j / √λ_j, ν_j = p_j / Σ p_j and sums over positions:

        dz = Σ_j (g w_j − ν_j Σ g w_j − ν_j u_j Σ g w_j u_j) / √r_j

    The last term is left out if r_j is at its lower bound NARROW.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, logs: Tensor, share: Tensor, offset: Tensor, ratio: Tensor) -> Tensor:
        ctx.save_for_backward(z, logs, share, offset, ratio)
        return mix(z, logs, Components(share, offset, ratio))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        z, logs, share, offset, ratio = ctx.saved_tensors
        weights, nu, scale = weigh(logs, share), logs.softmax(2), torch.rsqrt(ratio)
        by_offset = scale * (weights @ grad.mT)  # (L, J, C)
        by_ratio = scale.square() * (scale * (weights @ (grad * z).mT) - offset * by_offset)
        by_ratio *= ratio > NARROW
        out = (scale.mT @ weights).mul_(grad)
        out.addcmul_(z, by_ratio.mT @ nu, value=-1)
        out.baddbmm_((by_offset - offset * by_ratio).mT, nu, alpha=-1)
        return out, None, None, None, None
