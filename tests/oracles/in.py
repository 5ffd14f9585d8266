"""Instance normalization, ulyanov2016."""

from __future__ import annotations

from oracles.common import over, places, scale_shift

INVARIANT = {"scale", "shift", "weight", "filters"}


def output(x, weight, bias, eps=1e-5):
    sets = ([(n, c, *p) for p in places(x)] for n in range(len(x)) for c in range(x.shape[1]))
    return scale_shift(over(x, sets, eps), weight, bias)
