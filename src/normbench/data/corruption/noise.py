"""Noise: Gaussian, shot (Poisson), impulse (salt and pepper) and speckle."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from normbench.data.corruption.draws import Draws


def gaussian_noise(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """x + 𝒩(0, c²)."""
    c = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    return x + c * draws.normal(*x.shape[1:])


def shot_noise(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """Poisson(c x) / c: with fewer photons per pixel there is more noise."""
    c = (500, 250, 100, 75, 50)[severity - 1]
    levels = (x * 255).round()
    most = c + 12 * math.isqrt(c)
    rates = torch.arange(256, dtype=torch.float64)[:, None] * c / 255
    counts = torch.arange(1, most + 1, dtype=torch.float64)
    below = torch.special.gammaincc(counts, rates.expand(-1, most))  # P(count ≤ k) of every level
    below[0] = 1
    # one sorted list for all levels: row l lies in [l, l + 1]
    rows = (below + torch.arange(256, dtype=torch.float64)[:, None]).flatten().to(x.device)
    place = torch.searchsorted(rows, levels + draws.uniform(*x.shape[1:]))
    return (place - levels * most).clamp(0, most - 1) / c


def impulse_noise(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """A share c of all values becomes white or black."""
    c = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    hit = draws.uniform(*x.shape[1:]) <= c
    white = draws.uniform(*x.shape[1:]) <= 0.5
    return torch.where(hit, white.double(), x)


def speckle_noise(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """x + x 𝒩(0, c²)."""
    c = (0.06, 0.1, 0.12, 0.16, 0.2)[severity - 1]
    return x + x * c * draws.normal(*x.shape[1:])
