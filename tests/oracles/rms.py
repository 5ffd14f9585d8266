"""Root mean square normalization, zhang2019, eq. (4)."""

from __future__ import annotations

from itertools import product

import numpy as np

from oracles.common import places

INVARIANT = {"scale", "weight"}

VARIANTS = ({"eps": 0.1},)


def output(x, weight, eps=1e-5):
    y = np.empty_like(x)
    for n, p in product(range(len(x)), places(x)):
        vector = [x[(n, c, *p)] for c in range(x.shape[1])]
        root = (sum(v * v for v in vector) / len(vector) + eps) ** 0.5
        for c, v in enumerate(vector):
            y[(n, c, *p)] = weight[c] * v / root
    return y
