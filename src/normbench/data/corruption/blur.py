"""Blur: Gaussian, defocus (a disk), glass, motion and zoom."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from normbench.data.corruption.draws import Draws


def scale(x: Tensor) -> float:
    """Factor for lengths in pixels, which are those of images of 32 × 32."""
    return max(1.0, x.shape[-1] / 32)


def filter_matrix(
    side: int, sigma: float, truncate: float, like: Tensor, *, mirrored: bool = False
) -> Tensor:
    """A Gaussian filter along one axis as a matrix (side, side).

    Args:
        truncate: the filter is cut at this many standard deviations.
        like:     gives dtype and device.
        mirrored: how the image goes on beyond its edge: mirrored, or as at its edge.
    """
    radius = int(truncate * sigma + 0.5)
    kernel = [math.exp(-(step**2) / (2 * sigma**2)) for step in range(-radius, radius + 1)]
    matrix = torch.zeros(side, side, dtype=like.dtype)
    for row in range(side):
        for step, weight in zip(range(-radius, radius + 1), kernel, strict=True):
            place = (row + step) % (2 * side)
            inside = min(place, 2 * side - 1 - place) if mirrored else min(max(row + step, 0), side - 1)
            matrix[row, inside] += weight
    return (matrix / sum(kernel)).to(like.device)


def smoothed(x: Tensor, sigma: float) -> Tensor:
    """Gaussian filter cut at 4 σ. PERF: as matrices it takes a fiftieth of torchvision's time."""
    matrix = filter_matrix(x.shape[-1], sigma, 4, x)
    return matrix @ x @ matrix.T


def gaussian_blur(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """A Gaussian filter of standard deviation c pixels."""
    return smoothed(x, scale(x) * (0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1])


def defocus_blur(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """A disk whose edge is softened by a Gaussian filter of 3 × 3, or 5 × 5 for radii above 8."""
    radius, softening = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))[severity - 1]
    radius *= scale(x)
    margin = 1 if radius <= 8 else 2
    reach = math.floor(radius) + margin
    line = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    disk = (line[:, None].square() + line.square() <= radius**2).to(x.dtype)
    near = torch.exp(-line[reach - margin : reach + margin + 1].square() / (2 * softening**2))
    near = near / near.sum()
    kernel = F.conv2d((disk / disk.sum())[None, None], torch.outer(near, near)[None, None], padding=margin)
    padded = F.pad(x, [min(reach, x.shape[-1] - 1)] * 4, mode="reflect")
    padded = F.pad(padded, [reach - min(reach, x.shape[-1] - 1)] * 4, mode="replicate")
    return F.conv2d(padded.flatten(0, 1)[:, None], kernel).view(x.shape)


def glass_blur(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """Smooth, let every pixel take the value of a random neighbour, smooth again.

    The authors' code means to swap two pixels; on colour images it copies one, and so does this.
    """
    sigma, reach, rounds = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))[severity - 1]
    side, sigma = x.shape[-1], sigma * scale(x)
    pixels = (smoothed(x, sigma) * 255 + 1e-6).floor().flatten(2)  # (n, C, S·S)
    places = range(side - reach, reach, -1)
    for _ in range(rounds):
        moves = (draws.uniform(len(places) ** 2, 2) * 2 * reach).floor().long() - reach
        to = moves[:, :, 1] * side + moves[:, :, 0]
        number = 0
        for h in places:
            for w in places:
                at = h * side + w
                index = (at + to[:, number])[:, None, None].expand(-1, pixels.shape[1], 1)
                pixels[:, :, at : at + 1] = pixels.gather(2, index)
                number += 1
    return smoothed(pixels.view(x.shape) / 255, sigma)


def along_line(x: Tensor, radius: float, sigma: float, degrees: Tensor) -> Tensor:
    """ImageMagick's motion blur: half a Gaussian along a line of 2 radius + 1 pixels from each pixel.

    Args:
        x:       (n, C, S, S).
        degrees: direction of each image, (n,).
    """
    n, _, side, _ = x.shape
    width = 2 * math.ceil(radius) + 1
    steps = torch.arange(width, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-steps.square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    angle = torch.deg2rad(degrees)[:, None]
    right = torch.ceil(steps * angle.cos() - 0.5).long()  # (n, width)
    down = torch.ceil(steps * angle.sin() - 0.5).long()
    line = torch.arange(side, device=x.device)
    blurred = torch.zeros_like(x)
    for step in range(width):
        rows = (line + down[:, step, None]).clamp(0, side - 1)
        columns = (line + right[:, step, None]).clamp(0, side - 1)
        index = (rows[:, :, None] * side + columns[:, None, :]).view(n, 1, -1).expand(-1, x.shape[1], -1)
        blurred += kernel[step] * x.flatten(2).gather(2, index).view(x.shape)
    return blurred


def motion_blur(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """Along a line at −45° to 45° from the horizontal; levels are rounded."""
    radius, sigma = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))[severity - 1]
    degrees = draws.uniform(1, low=-45, high=45)[:, 0]
    blurred = along_line(x, radius * scale(x), sigma * scale(x), degrees)
    return (blurred * 255).round() / 255


def zoomed(x: Tensor, factor: float) -> Tensor:
    """The middle of the images, enlarged by linear interpolation to their side."""
    side = x.shape[-1]
    kept = math.ceil(side / factor)
    top = (side - kept) // 2
    middle = x[..., top : top + kept, top : top + kept]
    large = F.interpolate(middle, size=round(kept * factor), mode="bilinear", align_corners=True)
    trim = (large.shape[-1] - side) // 2
    return large[..., trim : trim + side, trim : trim + side]


def zoom_blur(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """The mean of the image and of its enlargements by 1.00, 1.01, …."""
    most = (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1]
    factors = np.arange(1, most, 0.01).tolist()
    total = x.clone()
    for factor in factors:
        total += zoomed(x, factor)
    return total / (len(factors) + 1)
