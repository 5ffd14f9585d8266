"""EvoNorm-B0, liu2020."""

from __future__ import annotations

import math

import numpy as np

from oracles.common import averaged, channel_sets, places, scale_shift

INVARIANT = {"scale", "weight", "filters"}

VARIANTS = ({"eps": 0.1, "momentum": 0.4}, {"batch": 2}, {"activated": False})


def variance(values):
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / len(values)


def over_batch(x):
    return np.array([variance([x[i] for i in indices]) for indices in channel_sets(x)])


def chunks(x, batch):
    size = batch or len(x)
    return [x[start : start + size] for start in range(0, len(x), size)]


def divided(x, batch_var, weight, bias, v, eps):
    y = np.empty_like(x)
    for n in range(len(x)):
        for c in range(x.shape[1]):
            own = math.sqrt(variance([x[(n, c, *p)] for p in places(x)]) + eps)
            for p in places(x):
                value = x[(n, c, *p)]
                y[(n, c, *p)] = value / max(math.sqrt(batch_var[c] + eps), v[c] * value + own)
    return scale_shift(y, weight, bias)


def output(x, weight, bias, v=None, eps=1e-5, momentum=0.1, batch=None, activated=True):
    if not activated:
        return scale_shift(x, weight, bias)
    parts = chunks(x, batch)
    return np.concatenate([divided(part, over_batch(part), weight, bias, v, eps) for part in parts])


def evaluated(xs, x, weight, bias, v=None, eps=1e-5, momentum=0.1, batch=None, activated=True):
    if not activated:
        return scale_shift(x, weight, bias)
    news = [np.mean([over_batch(part) for part in chunks(past, batch)], 0) for past in xs]
    return divided(x, averaged([1] * x.shape[1], news, momentum), weight, bias, v, eps)
