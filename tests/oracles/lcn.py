"""Local contrast normalization, jarrett2009, §2, by scipy's convolution of images and of ones."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import convolve

INVARIANT = {"scale", "shift", "weight"}

VARIANTS = (
    {"mode": "subtractive", "size": 3},
    {"mode": "divisive", "size": 3},
    {"floor": "eps", "eps": 0.5, "size": 3},
    {"floor": "eps", "size": 3, "sigma": 0.8},
    {"per_channel": True, "size": 3},
    {"per_channel": True, "size": 5, "sigma": 1.3, "mode": "divisive", "eps": 2.0},
)


def average(maps, size, sigma):
    """Σ w x / Σ w over all channels of maps: (C, *spatial) and the window around each position."""
    axes = maps.ndim - 1
    if axes == 0:
        return maps.mean()
    offsets = np.indices((size,) * axes).reshape(axes, -1).T - size // 2
    w = np.array([1.0 if sigma is None else np.exp(-(d @ d) / (2 * sigma**2)) for d in offsets])
    w = w.reshape((size,) * axes)
    sums = sum(convolve(m, w, mode="constant") for m in maps)
    return sums / (len(maps) * convolve(np.ones(maps.shape[1:]), w, mode="constant"))


def normalized(maps, mode, size, sigma, floor, eps):
    v = maps if mode == "divisive" else maps - average(maps, size, sigma)
    if mode == "subtractive":
        return v
    deviation = np.sqrt(average(v**2, size, sigma))
    c = deviation.mean() if floor == "mean" else 0.0
    return v / np.maximum(np.maximum(deviation, c), eps)


def output(x, mode="contrastive", size=9, sigma=None, floor="mean", per_channel=False, eps=1e-4):
    y = np.empty_like(x)
    for n, image in enumerate(x):
        parts = [slice(c, c + 1) for c in range(len(image))] if per_channel else [slice(None)]
        for part in parts:
            y[n, part] = normalized(image[part], mode, size, sigma, floor, eps)
    return y
