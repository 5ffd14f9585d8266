"""Frozen batch normalization if nobody calls begin_step: batch norm, or frozen from the start."""

from __future__ import annotations

import numpy as np

from oracles import bn
from oracles.common import by_running

INVARIANT = {"scale", "shift", "weight", "filters"}

VARIANTS = ({"after": 0.0, "eps": 0.1}, {"after": 1.0, "momentum": 0.7})


def output(x, weight, bias, after=0.5, eps=1e-5, momentum=0.1):
    if after > 0:
        return bn.output(x, weight, bias, eps)
    return by_running(x, np.zeros(x.shape[1]), np.ones(x.shape[1]), weight, bias, eps)


def evaluated(xs, x, weight, bias, after=0.5, eps=1e-5, momentum=0.1):
    if after > 0:
        return bn.evaluated(xs, x, weight, bias, eps, momentum)
    return output(x, weight, bias, after, eps)
