"""Local response normalization, krizhevsky2012, §3.3, with α divided by the window."""

from __future__ import annotations

from itertools import product

import numpy as np

from oracles.common import places

VARIANTS = (
    {"size": 4, "alpha": 2.0},
    {"size": 1, "alpha": 1.0, "beta": 0.5},
    {"size": 11, "alpha": 3.0, "k": 1},
)


def output(x, size=5, alpha=5e-4, beta=0.75, k=2.0):
    y, channels = np.empty_like(x), x.shape[1]
    for n, c, p in product(range(len(x)), range(channels), places(x)):
        window = range(max(0, c - size // 2), min(channels, c + (size + 1) // 2))
        energy = sum(x[(n, i, *p)] ** 2 for i in window)
        y[(n, c, *p)] = x[(n, c, *p)] / (k + alpha / size * energy) ** beta
    return y
