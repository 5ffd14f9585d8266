"""L1 batch normalization, hoffer2018, §4, with running averages of mean and deviation."""

from __future__ import annotations

from math import pi, sqrt

import numpy as np

from oracles.common import averaged, channel_sets, scale_shift

INVARIANT = {"scale", "shift", "weight", "filters"}

VARIANTS = ({"eps": 0.1}, {"momentum": 0.7})


def spread(values):
    """Mean, and the mean absolute deviation in units of a normal variable's σ."""
    mean = sum(values) / len(values)
    return mean, sqrt(pi / 2) * sum(abs(v - mean) for v in values) / len(values)


def spreads(x):
    """Means and deviations of the channels."""
    return np.array([spread([x[i] for i in indices]) for indices in channel_sets(x)]).T


def divided(x, mean, deviation, weight, bias, eps):
    y = np.stack([(x[:, c] - mean[c]) / (deviation[c] + eps) for c in range(x.shape[1])], axis=1)
    return scale_shift(y, weight, bias)


def output(x, weight, bias, eps=1e-5, momentum=0.1):
    return divided(x, *spreads(x), weight, bias, eps)


def evaluated(xs, x, weight, bias, eps=1e-5, momentum=0.1):
    means, deviations = zip(*map(spreads, xs), strict=True)
    mean = averaged([0] * x.shape[1], means, momentum)
    deviation = averaged([1] * x.shape[1], deviations, momentum)
    return divided(x, mean, deviation, weight, bias, eps)
