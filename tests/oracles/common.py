"""Parts that several oracles share: plain loops over numpy arrays, without any import of ours."""

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
    """The spatial indices of x: (N, C, *spatial)."""
    return list(product(*map(range, x.shape[2:])))


def channel_sets(x):
    """One set of indices per channel: all images, all positions."""
    return [[(n, c, *p) for n in range(len(x)) for p in places(x)] for c in range(x.shape[1])]


def by_channel(x):
    """The values of every channel."""
    return [x[:, channel].ravel() for channel in range(x.shape[1])]


def moments(x):
    """Mean and Bessel-corrected variance of every channel."""
    values = [np.array([x[i] for i in indices]) for indices in channel_sets(x)]
    return np.array([v.mean() for v in values]), np.array([v.var(ddof=1) for v in values])


def averaged(start, news, momentum):
    """s ← s + m (new − s) over the batches in turn."""
    s = np.array(start, dtype=float)
    for new in news:
        s = s + momentum * (new - s)
    return s


def by_running(x, mean, var, weight, bias, eps):
    """What batch norm does in evaluation."""
    y = x.copy()
    for c in range(x.shape[1]):
        y[:, c] = (x[:, c] - mean[c]) / (var[c] + eps) ** 0.5 * weight[c] + bias[c]
    return y
