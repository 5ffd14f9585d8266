"""Every norm a second time, transcribed from its paper in plain loops over numpy arrays.

One function per registered key, of the key's name with a trailing underscore where Python reserves it (in_).
It takes x: (N, C, *spatial) of one run and the layer's arguments, and returns the output in training.
Clarity is all that counts here; nothing is shared with the package.
"""

from __future__ import annotations

from itertools import product

import numpy as np


def standardize(values, eps):
    """Values of one statistic, centred and divided by their deviation, in two passes."""
    mean = sum(values) / len(values)
    var = sum((v - mean) ** 2 for v in values) / len(values)
    return [(v - mean) / (var + eps) ** 0.5 for v in values]


def over(x, sets, eps):
    """Standardize every set of indices by itself."""
    y = np.full_like(x, np.nan)
    for indices in sets:
        for index, value in zip(indices, standardize([x[i] for i in indices], eps), strict=True):
            y[index] = value
    return y


def scale_shift(y, weight, bias):
    y = y.copy()
    for channel in range(y.shape[1]):
        y[:, channel] = y[:, channel] * weight[channel] + bias[channel]
    return y


def places(x):
    return list(product(*map(range, x.shape[2:])))


def none(x):
    return x


def affine(x, weight, bias):
    return scale_shift(x, weight, bias)


def bn(x, weight, bias, eps=1e-5):
    images, channels = range(x.shape[0]), range(x.shape[1])
    sets = ([(n, c, *p) for n in images for p in places(x)] for c in channels)
    return scale_shift(over(x, sets, eps), weight, bias)


def ghost(x, weight, bias, ghost_size, eps=1e-5):
    chunks = [x[start : start + ghost_size] for start in range(0, len(x), ghost_size)]
    return np.concatenate([bn(chunk, weight, bias, eps) for chunk in chunks])


def gn(x, weight, bias, eps=1e-5, num_groups=None, group_size=None):
    count = x.shape[1]
    size = group_size or (
        count // num_groups if num_groups else max(s for s in range(1, 17) if count % s == 0)
    )
    groups = [range(start, start + size) for start in range(0, count, size)]
    sets = ([(n, c, *p) for c in group for p in places(x)] for n in range(len(x)) for group in groups)
    return scale_shift(over(x, sets, eps), weight, bias)


def ln_chw(x, weight, bias, eps=1e-5):
    sets = ([(n, c, *p) for c in range(x.shape[1]) for p in places(x)] for n in range(len(x)))
    return scale_shift(over(x, sets, eps), weight, bias)


def ln_c(x, weight, bias, eps=1e-5):
    sets = ([(n, c, *p) for c in range(x.shape[1])] for n in range(len(x)) for p in places(x))
    return scale_shift(over(x, sets, eps), weight, bias)


def in_(x, weight, bias, eps=1e-5):
    sets = ([(n, c, *p) for p in places(x)] for n in range(len(x)) for c in range(x.shape[1]))
    return scale_shift(over(x, sets, eps), weight, bias)


def rms(x, weight, eps=1e-5):
    y = np.empty_like(x)
    for n, p in product(range(len(x)), places(x)):
        vector = [x[(n, c, *p)] for c in range(x.shape[1])]
        root = (sum(v * v for v in vector) / len(vector) + eps) ** 0.5
        for c, v in enumerate(vector):
            y[(n, c, *p)] = weight[c] * v / root
    return y


def lrn(x, size=5, alpha=5e-4, beta=0.75, k=2.0):
    y, channels = np.empty_like(x), x.shape[1]
    for n, c, p in product(range(len(x)), range(channels), places(x)):
        window = range(max(0, c - size // 2), min(channels, c + (size + 1) // 2))
        energy = sum(x[(n, i, *p)] ** 2 for i in window)
        y[(n, c, *p)] = x[(n, c, *p)] / (k + alpha / size * energy) ** beta
    return y
