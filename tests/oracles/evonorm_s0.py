"""EvoNorm-S0, liu2020."""

from __future__ import annotations

import math

import numpy as np

from oracles.common import places, scale_shift

VARIANTS = ({"num_groups": 3}, {"num_groups": 1, "eps": 0.1}, {"group_size": 2}, {"activated": False})


def output(x, weight, bias, v=None, eps=1e-5, num_groups=None, group_size=None, activated=True):
    if not activated:
        return scale_shift(x, weight, bias)
    channels, y = x.shape[1], np.empty_like(x)
    size = group_size or (
        channels // num_groups if num_groups else max(s for s in range(1, 17) if channels % s == 0)
    )
    for n in range(len(x)):
        for start in range(0, channels, size):
            group = [(n, c, *p) for c in range(start, start + size) for p in places(x)]
            mean = sum(x[i] for i in group) / len(group)
            var = sum((x[i] - mean) ** 2 for i in group) / len(group)
            for i in group:
                y[i] = x[i] / (1 + math.exp(-v[i[1]] * x[i])) / math.sqrt(var + eps)
    return scale_shift(y, weight, bias)
