"""Layer normalization of a position, ba2016."""

from __future__ import annotations

from oracles.common import over, places, scale_shift

INVARIANT = {"scale", "shift", "weight"}

VARIANTS = ({"eps": 0.1},)


def output(x, weight, bias, eps=1e-5):
    sets = ([(n, c, *p) for c in range(x.shape[1])] for n in range(len(x)) for p in places(x))
    return scale_shift(over(x, sets, eps), weight, bias)
