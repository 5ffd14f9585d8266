"""Batch-channel normalization by estimated statistics, qiao2019, as in the authors' EstBN."""

from __future__ import annotations

import numpy as np

from oracles.bcn import VARIANTS, by_group
from oracles.common import by_running, channel_sets

__all__ = ["VARIANTS", "evaluated", "gradients", "outputs"]


def estimates(xs, momentum):
    """Mean and variance of every channel after each step."""
    channels = xs[0].shape[1]
    mean, var = [0.0] * channels, [1.0] * channels
    for x in xs:
        for c, indices in enumerate(channel_sets(x)):
            values = [x[i] for i in indices]
            about_old = sum((v - mean[c]) ** 2 for v in values) / len(values)
            mean[c] = (1 - momentum) * mean[c] + momentum * sum(values) / len(values)
            var[c] = (1 - momentum) * var[c] + momentum * about_old
        yield list(mean), list(var)


def outputs(
    xs, weight, bias, group_weight, group_bias, eps=1e-5, momentum=0.1, num_groups=None, group_size=None
):
    zs = [
        by_running(x, *moved, weight, bias, eps) for x, moved in zip(xs, estimates(xs, momentum), strict=True)
    ]
    return [by_group(z, group_weight, group_bias, eps, num_groups, group_size) for z in zs]


def evaluated(
    xs, x, weight, bias, group_weight, group_bias, eps=1e-5, momentum=0.1, num_groups=None, group_size=None
):
    *_, (mean, var) = estimates(xs, momentum)
    z = by_running(x, mean, var, weight, bias, eps)
    return by_group(z, group_weight, group_bias, eps, num_groups, group_size)


def gradients(
    xs, gs, weight, bias, group_weight, group_bias, eps=1e-5, momentum=0.1, num_groups=None, group_size=None
):
    """Through the groups, whose statistics have a gradient, and then past the estimates, which have none."""
    result = []
    for x, g, (mean, var) in zip(xs, gs, estimates(xs, momentum), strict=True):
        z = by_running(x, mean, var, weight, bias, eps)
        size = x.shape[1] // len(group_weight)
        dx = np.empty_like(x)
        for n in range(len(x)):
            for group, factor in enumerate(group_weight):
                members = slice(group * size, (group + 1) * size)
                values, upstream = z[n, members], factor * g[n, members]
                sigma = np.sqrt(values.var() + eps)
                unit = (values - values.mean()) / sigma
                dx[n, members] = (upstream - upstream.mean() - unit * (upstream * unit).mean()) / sigma
        for c in range(x.shape[1]):
            dx[:, c] *= weight[c] / np.sqrt(var[c] + eps)
        result.append(dx)
    return result
