"""Weather: snow and fog."""

from __future__ import annotations

import torch
from torch import Tensor

from normbench.data.corruption.blur import along_line, scale, zoomed
from normbench.data.corruption.draws import Draws


def grey(x: Tensor) -> Tensor:
    """Luma of images, (n, 1, S, S)."""
    if x.shape[1] == 1:
        return x
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=x.dtype, device=x.device)
    return (x * weights[:, None, None]).sum(1, keepdim=True)


def snow(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """Flakes, drawn out along the direction of their fall, over whitened images."""
    mean, sd, zoom, least, radius, sigma, keep = (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )[severity - 1]
    flakes = zoomed(mean + sd * draws.normal(1, *x.shape[2:]), zoom)
    flakes = torch.where(flakes < least, 0.0, flakes).clamp(0, 1)
    flakes = (flakes * 255 + 1e-6).floor() / 255
    degrees = draws.uniform(1, low=-135, high=-45)[:, 0]
    flakes = (along_line(flakes, radius * scale(x), sigma * scale(x), degrees) * 255).round() / 255
    white = keep * x + (1 - keep) * torch.maximum(x, grey(x) * 1.5 + 0.5)
    return white + flakes + flakes.flip(2, 3)


def fog(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """A cloud of random density is laid over the image, and white is kept where it was."""
    density, decay = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))[severity - 1]
    side = x.shape[-1]
    white = x.flatten(1).amax(1)[:, None, None, None]
    cloud = plasma(1 << (side - 1).bit_length(), decay, draws)[:, None, :side, :side]
    return (x + density * cloud) * white / (white + density)


def plasma(side: int, decay: float, draws: Draws) -> Tensor:
    """Heights from 0 to 1 by the diamond-square algorithm: (n, side, side), a torus.

    Args:
        side:  a power of two.
        decay: by which each halving of the step divides the range of the random part.
    """
    numbers = draws.uniform(side * side, low=-1)
    heights = torch.zeros(len(numbers), side, side, dtype=numbers.dtype, device=numbers.device)
    used, step, wobble = 0, side, 100.0

    def random_mean(four: Tensor) -> Tensor:
        nonlocal used
        count = four[0].numel()
        part = numbers[:, used : used + count].reshape(four.shape)
        used += count
        return four / 4 + wobble * wobble * part

    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        rows = corners + corners.roll(-1, 1)
        heights[:, half::step, half::step] = random_mean(rows + rows.roll(-1, 2))
        middles = heights[:, half::step, half::step]
        left = middles + middles.roll(1, 1) + corners + corners.roll(-1, 2)
        heights[:, ::step, half::step] = random_mean(left)
        above = middles + middles.roll(1, 2) + corners + corners.roll(-1, 1)
        heights[:, half::step, ::step] = random_mean(above)
        step, wobble = half, wobble / decay
    heights = heights - heights.amin((1, 2), keepdim=True)
    return heights / heights.amax((1, 2), keepdim=True)
