"""Batch-instance normalization, nam2018, §3, with the gate clipped to [0, 1]."""

from __future__ import annotations

import numpy as np

from oracles import bn
from oracles.common import averaged, by_running, moments, over, places, scale_shift

INVARIANT = {"scale", "shift", "weight", "filters"}

VARIANTS = ({"eps": 0.1}, {"momentum": 0.7}, {"batch": 2})


def chunks(x, batch):
    size = batch or len(x)
    return [x[start : start + size] for start in range(0, len(x), size)]


def mixed(of_batch, x, weight, bias, gate, eps):
    """γ (ρ batch norm + (1 − ρ) instance norm) + β; the batch norm is given."""
    maps = [[(n, c, *p) for p in places(x)] for n in range(len(x)) for c in range(x.shape[1])]
    of_image, y = over(x, maps, eps), np.empty_like(x)
    for c in range(x.shape[1]):
        share = min(max(gate[c], 0.0), 1.0)
        y[:, c] = share * of_batch[:, c] + (1 - share) * of_image[:, c]
    return scale_shift(y, weight, bias)


def output(x, weight, bias, gate, eps=1e-5, momentum=0.1, batch=None):
    one, zero = np.ones(x.shape[1]), np.zeros(x.shape[1])
    of_batch = np.concatenate([bn.output(part, one, zero, eps) for part in chunks(x, batch)])
    return mixed(of_batch, x, weight, bias, gate, eps)


def evaluated(xs, x, weight, bias, gate, eps=1e-5, momentum=0.1, batch=None):
    def new(which):
        return [np.mean([moments(part)[which] for part in chunks(past, batch)], 0) for past in xs]

    mean, var = averaged([0] * x.shape[1], new(0), momentum), averaged([1] * x.shape[1], new(1), momentum)
    of_batch = by_running(x, mean, var, np.ones(x.shape[1]), np.zeros(x.shape[1]), eps)
    return mixed(of_batch, x, weight, bias, gate, eps)
