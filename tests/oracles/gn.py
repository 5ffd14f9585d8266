"""Group normalization, wu2018, §3.1."""

from __future__ import annotations

from oracles.common import over, places, scale_shift

INVARIANT = {"scale", "shift", "weight"}

VARIANTS = ({"num_groups": 3}, {"num_groups": 1}, {"group_size": 2, "eps": 0.1})


def output(x, weight, bias, eps=1e-5, num_groups=None, group_size=None):
    count = x.shape[1]
    size = group_size or (
        count // num_groups if num_groups else max(s for s in range(1, 17) if count % s == 0)
    )
    groups = [range(start, start + size) for start in range(0, count, size)]
    sets = ([(n, c, *p) for c in group for p in places(x)] for n in range(len(x)) for group in groups)
    return scale_shift(over(x, sets, eps), weight, bias)
