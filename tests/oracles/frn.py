"""Filter response normalization and thresholded linear unit, singh2020, eqs. (1) to (3)."""

from __future__ import annotations

import numpy as np

from oracles.common import places

INVARIANT = {"scale", "weight", "filters"}

VARIANTS = (
    {"learn_eps": True, "eps": 0.3},
    {"learn_eps": False, "eps": 0.1},
    {"activated": False},
    {"activated": False, "learn_eps": False},
)


def output(x, weight, bias, tau=None, eps_learned=None, eps=1e-6, learn_eps="auto", activated=True):
    y = np.empty_like(x)
    if learn_eps is True or (learn_eps == "auto" and len(places(x)) == 1):
        eps = abs(eps) + abs(eps_learned.item())
    for n in range(len(x)):
        for c in range(x.shape[1]):
            power = sum(x[(n, c, *p)] ** 2 for p in places(x)) / len(places(x))
            for p in places(x):
                value = weight[c] * x[(n, c, *p)] / (power + eps) ** 0.5 + bias[c]
                y[(n, c, *p)] = max(value, tau[c]) if activated else value
    return y
