"""Batch-channel normalization, qiao2019: batch norm, then groups with a scale and shift each."""

from __future__ import annotations

import numpy as np

from oracles import bn, gn

INVARIANT = {"scale", "shift", "weight", "filters"}

VARIANTS = ({"num_groups": 3}, {"group_size": 2, "eps": 0.1}, {"num_groups": 1, "momentum": 0.7})


def by_group(z, group_weight, group_bias, eps, num_groups, group_size):
    size = z.shape[1] // len(group_weight)
    weight, bias = np.repeat(group_weight, size), np.repeat(group_bias, size)
    return gn.output(z, weight, bias, eps, num_groups, group_size)


def output(
    x, weight, bias, group_weight, group_bias, eps=1e-5, momentum=0.1, num_groups=None, group_size=None
):
    z = bn.output(x, weight, bias, eps)
    return by_group(z, group_weight, group_bias, eps, num_groups, group_size)


def evaluated(
    xs, x, weight, bias, group_weight, group_bias, eps=1e-5, momentum=0.1, num_groups=None, group_size=None
):
    z = bn.evaluated(xs, x, weight, bias, eps, momentum)
    return by_group(z, group_weight, group_bias, eps, num_groups, group_size)
