"""Inputs as matrices, one per statistic and group of channels, for norms that multiply matrices."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def as_matrices(x: Tensor, chunks: int, groups: int) -> Tensor:
    """x: (N, G·d, *spatial) as (S·G, d, m): each group's channels by its m = N/S · positions values.

    PERF: a view of x if its memory layout allows it, else one copy.
    """
    split = x.reshape(chunks, x.shape[0] // chunks, groups, x.shape[1] // groups, -1)  # (S, B, G, d, P)
    return split.permute(0, 2, 3, 1, 4).flatten(3).flatten(0, 1)


def from_matrices(matrices: Tensor, x: Tensor, chunks: int) -> Tensor:
    """The inverse of `as_matrices(x, …)`: (S·G, d, m) → (N, G·d, *spatial), in the memory order of x."""
    split = torch.unflatten(torch.unflatten(matrices, 0, (chunks, -1)), 3, (x.shape[0] // chunks, -1))
    if x.dim() > 2 and x.stride(1) == 1:
        rows = split.permute(0, 3, 4, 1, 2)  # (S, B, P, G, d)
        return rows.reshape(x.shape[0], *x.shape[2:], x.shape[1]).contiguous().movedim(-1, 1)
    return split.permute(0, 3, 1, 2, 4).reshape(x.shape).contiguous()


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """A context that disables autocast, so that products of fp32 matrices stay in fp32."""
    kind = x.device.type
    known = torch.amp.is_autocast_available(kind)
    return torch.autocast(kind, enabled=False) if known and torch.is_autocast_enabled(kind) else nullcontext()
