"""Batch normalization with enhanced linear transformation, xu2020, §3."""

from __future__ import annotations

from itertools import product

import numpy as np

from oracles import bn
from oracles.common import places

INVARIANT = {"scale", "shift", "weight", "filters"}

VARIANTS = ({"kernel": 5, "eps": 0.1}, {"axes": 1}, {"axes": 3, "momentum": 0.7})


def mixed(z, weight, around, bias, kernel, axes):
    """Σ_d w_d z_{p+d} + β; w_0 is the weight, the other w_d stand in `around`, in row-major order."""
    reach = range(-(kernel // 2), kernel // 2 + 1)
    offsets = list(product(reach, repeat=axes))
    centre = offsets.index((0,) * axes)
    size = z.shape[2:]
    y = np.empty_like(z)
    for n, c, p in product(range(len(z)), range(z.shape[1]), places(z)):
        w = [*around[c][:centre], weight[c], *around[c][centre:]]
        total = bias[c]
        for offset, factor in zip(offsets, w, strict=True):
            padded = (0,) * (len(p) - axes) + offset  # no offset along axes beside the kernel's
            beyond = padded[: len(padded) - len(p)]  # offsets along axes that the input lacks
            q = tuple(i + d for i, d in zip(p, padded[len(beyond) :], strict=True))
            if not any(beyond) and all(0 <= i < length for i, length in zip(q, size, strict=True)):
                total += factor * z[(n, c, *q)]
        y[(n, c, *p)] = total
    return y


def standard(x):
    return np.ones(x.shape[1]), np.zeros(x.shape[1])


def output(x, weight, around, bias, kernel=3, axes=2, eps=1e-5, momentum=0.1):
    return mixed(bn.output(x, *standard(x), eps), weight, around, bias, kernel, axes)


def evaluated(xs, x, weight, around, bias, kernel=3, axes=2, eps=1e-5, momentum=0.1):
    z = bn.evaluated(xs, x, *standard(x), eps, momentum)
    return mixed(z, weight, around, bias, kernel, axes)
