"""A norm with one lane → the layer of torch that computes the same in evaluation, if there is one.

Candidates are compared with the norm on random inputs. So brn, ghost, sync and frozen become BatchNorm, whose
running statistics they read, and a norm that only looks alike stays what it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from normbench.norms import Norm
from normbench.norms.methods.gn import GroupNorm
from normbench.norms.running import RunningNorm

#: Sides of the maps that candidates are compared on.
_SIDE = 5


@torch.no_grad()
def ordinary_norm(norm: Norm, axes: int) -> nn.Module:
    """A layer for inputs with so many axes, 2 or 4; a copy of the norm itself if torch has none."""
    for candidate in _candidates(norm, axes):
        if _equal(norm, candidate, axes):
            return candidate
    return copy.deepcopy(norm)


def _candidates(norm: Norm, axes: int) -> Iterator[nn.Module]:
    channels = norm.channels
    eps = norm.eps if norm.lane_eps else 1e-5
    if not norm.state_dict():
        yield nn.Identity()
    if isinstance(norm, RunningNorm) and norm.tracked:
        mean, var = getattr(norm, "running_mean", None), getattr(norm, "running_var", None)
        if isinstance(mean, Tensor) and isinstance(var, Tensor):
            batch_norm = (nn.BatchNorm1d if axes == 2 else nn.BatchNorm2d)(channels, eps, _momentum(norm))
            batch_norm.running_mean, batch_norm.running_var = mean.clone(), var.clone()
            yield _with_affine(batch_norm, norm)
    if isinstance(norm, GroupNorm):
        yield _with_affine(nn.GroupNorm(norm.num_groups, channels, eps), norm)
    if axes == 2:
        yield _with_affine(nn.LayerNorm(channels, eps), norm)
        if norm.bias is None:
            yield _with_affine(nn.RMSNorm(channels, eps), norm)
    elif not isinstance(norm, RunningNorm):
        yield _with_affine(nn.GroupNorm(1, channels, eps), norm)
        yield _with_affine(nn.InstanceNorm2d(channels, eps, affine=True), norm)


def _momentum(norm: RunningNorm) -> float | None:
    """The momentum that torch's layer gets: None for a cumulative average, torch's own if it has no such."""
    (momentum,) = norm.momenta
    try:
        return float(str(momentum.canonical))
    except ValueError:
        return None if str(momentum.canonical) == "cumulative" else 0.1


def _with_affine(layer: nn.Module, norm: Norm) -> nn.Module:
    """The layer with γ and β of the norm; 1 and 0 if it has none."""
    for name, default in (("weight", 1.0), ("bias", 0.0)):
        held, own = getattr(layer, name, None), getattr(norm, name, None)
        if held is not None:
            values = torch.full_like(held, default) if own is None else own.detach().clone()
            setattr(layer, name, nn.Parameter(values.view(held.shape)))
    return layer.eval()


def _equal(norm: Norm, candidate: nn.Module, axes: int) -> bool:
    shape = (4, norm.channels) if axes == 2 else (4, norm.channels, _SIDE, _SIDE)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    norm, candidate = copy.deepcopy(norm).double().eval(), copy.deepcopy(candidate).double()
    try:
        found = candidate(x)
        wanted = norm(x)
    except ValueError:  # not for such a shape
        return False
    return torch.allclose(found, wanted, rtol=1e-9, atol=1e-10)
