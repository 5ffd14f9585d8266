"""Ghost batch normalization, hoffer2017, Algorithm 1."""

from __future__ import annotations

import numpy as np

from oracles import bn
from oracles.common import averaged, by_running, moments

INVARIANT = {"scale", "shift", "weight", "filters"}

FITTING = {"ghost_size": 2}
VARIANTS = ({"ghost_size": 2}, {"ghost_size": 4, "momentum": 0.4})


def ghosts(x, size):
    return [x[start : start + size] for start in range(0, len(x), size)]


def output(x, weight, bias, ghost_size, eps=1e-5, momentum=0.1):
    return np.concatenate([bn.output(chunk, weight, bias, eps) for chunk in ghosts(x, ghost_size)])


def evaluated(xs, x, weight, bias, ghost_size, eps=1e-5, momentum=0.1):
    def new(which):
        return [np.mean([moments(ghost)[which] for ghost in ghosts(batch, ghost_size)], 0) for batch in xs]

    mean, var = averaged([0] * x.shape[1], new(0), momentum), averaged([1] * x.shape[1], new(1), momentum)
    return by_running(x, mean, var, weight, bias, eps)
