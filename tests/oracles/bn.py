"""Batch normalization, ioffe2015, Algorithms 1 and 2."""

from __future__ import annotations

from oracles.common import averaged, by_running, channel_sets, moments, over, scale_shift

INVARIANT = {"scale", "shift", "weight", "filters"}

VARIANTS = ({"eps": 0.1}, {"momentum": 0.7})


def output(x, weight, bias, eps=1e-5, momentum=0.1):
    return scale_shift(over(x, channel_sets(x), eps), weight, bias)


def evaluated(xs, x, weight, bias, eps=1e-5, momentum=0.1):
    means, variances = zip(*map(moments, xs), strict=True)
    mean, var = averaged([0] * x.shape[1], means, momentum), averaged([1] * x.shape[1], variances, momentum)
    return by_running(x, mean, var, weight, bias, eps)
