"""Digital: brightness, contrast, saturation, elastic distortion, pixelation and JPEG compression."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from normbench.data.corruption.blur import filter_matrix
from normbench.data.corruption.draws import Draws


def brightness(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """The value of HSV, the largest channel, plus c. Hue and saturation stay."""
    c = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    value = x.amax(1, keepdim=True)
    lighter = (value + c).clamp(0, 1)
    return torch.where(value > 0, x * (lighter / value), lighter)


def contrast(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """Each channel is pulled towards its mean over the image: (x − mean) c + mean."""
    c = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) * c + mean


def saturate(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """The saturation of HSV times a plus b. Grey has the hue of red, as everywhere in HSV."""
    a, b = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))[severity - 1]
    value, least = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    spread = value - least
    saturation = torch.where(value > 0, spread / value, 0.0)
    red = torch.tensor([0.0, 1.0, 1.0], dtype=x.dtype, device=x.device)[:, None, None]
    away = torch.where(spread > 0, (value - x) / spread, red)  # 0 at the largest channel, 1 at the least
    return value * (1 - (saturation * a + b).clamp(0, 1) * away)


def pixelate(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """Shrink to a share c of the side and enlarge again, with box filters and rounded levels as Pillow."""
    c = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    side = x.shape[-1]
    small = max(1, int(side * c))
    return _boxes(_boxes(x * 255, small), side) / 255


def _boxes(levels: Tensor, side: int) -> Tensor:
    """Resize to side × side: each new pixel is the mean of the old ones whose centres its box holds."""
    old = levels.shape[-1]
    ratio = old / side
    reach = max(ratio, 1.0) * 0.5
    weights = torch.zeros(side, old, dtype=levels.dtype)
    for new in range(side):
        centre = (new + 0.5) * ratio
        first, last = max(0, int(centre - reach + 0.5)), min(old, int(centre + reach + 0.5))
        for place in range(first, last):
            offset = (place - centre + 0.5) / max(ratio, 1.0)
            weights[new, place] = float(-0.5 < offset <= 0.5)
    weights = (weights / weights.sum(1, keepdim=True)).to(levels.device)
    rows = (levels @ weights.T + 0.5 + 1e-9).floor()
    return (weights @ rows + 0.5 + 1e-9).floor()


def jpeg_compression(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """JPEG of quality c, by Pillow on the CPU, as the authors' code."""
    quality = (80, 65, 58, 50, 40)[severity - 1]
    decoded = []
    for image in (x * 255).round().to(torch.uint8).movedim(1, 3).squeeze(3).cpu().numpy():
        file = BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        decoded.append(np.array(Image.open(file)).reshape(*x.shape[2:], -1))
    return torch.from_numpy(np.stack(decoded)).movedim(3, 1).to(x.device).double() / 255


def elastic_transform(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """A random affine map, then smooth random displacements; lengths are shares of the side."""
    amplitude, sigma, shift = (
        (0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03),
    )[severity - 1]  # fmt: skip
    side = x.shape[-1]
    middle, arm = side // 2, side // 3
    points = torch.tensor(
        [[middle + arm, middle + arm], [middle + arm, middle - arm], [middle - arm, middle - arm]],
        dtype=x.dtype, device=x.device,
    )  # fmt: skip
    moved = points + draws.uniform(3, 2, low=-shift * side, high=shift * side)
    ones = torch.ones_like(moved[:, :, :1])
    back = torch.linalg.solve(torch.cat([moved, ones], 2), points.expand_as(moved))  # (n, 3, 2)
    line = torch.arange(side, dtype=x.dtype, device=x.device)
    down, right = torch.meshgrid(line, line, indexing="ij")
    places = torch.stack([right, down, torch.ones_like(right)], 2)  # (S, S, 3)
    warped = _sample(x, torch.einsum("hwk,nkd->nhwd", places, back), corners=True)
    if amplitude == 0:
        return warped
    smooth = filter_matrix(side, sigma * side, 3, x, mirrored=True)
    moves = draws.uniform(2, side, side, low=-1)
    moves = (smooth @ moves @ smooth.T) * (amplitude * side)
    return _sample(warped, torch.stack([right, down], 2) + moves.movedim(1, 3), corners=False)


def _sample(x: Tensor, places: Tensor, *, corners: bool) -> Tensor:
    """Linear interpolation of x at (column, row), (n, S, S, 2).

    Args:
        corners: beyond the edge the image is mirrored at the centres of its outer pixels; false: at its edge.
    """
    side = x.shape[-1]
    grid = places * 2 / (side - 1) - 1 if corners else (places * 2 + 1) / side - 1
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=corners)
