"""Mode normalization, deecke2019, evaluated as by the authors' code: with running E[x] and E[x²]."""

from __future__ import annotations

import numpy as np

from oracles.common import averaged, places, scale_shift

VARIANTS = ({"eps": 0.1}, {"modes": 1}, {"modes": 3, "momentum": 0.7})


def gates(x, gate_weight, gate_bias):
    """(N, J): how every image is shared among the modes."""
    pooled = np.array([[channel.mean() for channel in image] for image in x])
    scores = np.exp(pooled @ gate_weight.T + gate_bias)
    return scores / scores.sum(1, keepdims=True)


def weighted(values, g):
    """Mean over images and positions of every channel, each image weighing g."""
    total = sum(
        g_n * np.mean([image[(slice(None), *p)] for p in places(values)], 0)
        for g_n, image in zip(g, values, strict=True)
    )
    return total / g.sum()


def along(vector, x):
    return vector.reshape(1, -1, *[1] * (x.ndim - 2))


def mixed(x, g, means, variances, weight, bias, eps):
    y = np.zeros_like(x)
    for j in range(g.shape[1]):
        standard = (x - along(means[j], x)) / np.sqrt(along(variances[j], x) + eps)
        y += g[:, j].reshape(-1, *[1] * (x.ndim - 1)) * standard
    return scale_shift(y, weight, bias)


def output(x, weight, bias, gate_weight, gate_bias, modes=2, eps=1e-5, momentum=0.1):
    g = gates(x, gate_weight, gate_bias)
    means = [weighted(x, g[:, j]) for j in range(modes)]
    variances = [weighted((x - along(means[j], x)) ** 2, g[:, j]) for j in range(modes)]
    return mixed(x, g, means, variances, weight, bias, eps)


def evaluated(xs, x, weight, bias, gate_weight, gate_bias, modes=2, eps=1e-5, momentum=0.1):
    every = [(batch, gates(batch, gate_weight, gate_bias)) for batch in xs]
    means, variances = [], []
    for j in range(modes):
        first = averaged(np.zeros(x.shape[1]), [weighted(batch, g[:, j]) for batch, g in every], momentum)
        second = averaged(np.ones(x.shape[1]), [weighted(batch**2, g[:, j]) for batch, g in every], momentum)
        means.append(first)
        variances.append(second - first**2)
    return mixed(x, gates(x, gate_weight, gate_bias), means, variances, weight, bias, eps)
