"""L2 normalization, liu2015, §3.3."""

from __future__ import annotations

from itertools import product

import numpy as np

from oracles.common import places

INVARIANT = {"scale", "weight"}

VARIANTS = ({"eps": 2.0},)


def output(x, weight, eps=1e-12):
    y = np.empty_like(x)
    for n, p in product(range(len(x)), places(x)):
        vector = [x[(n, c, *p)] for c in range(x.shape[1])]
        length = sum(v * v for v in vector) ** 0.5
        for c, v in enumerate(vector):
            y[(n, c, *p)] = weight[c] * v / max(length, eps)
    return y
