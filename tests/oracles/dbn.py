"""Decorrelated batch normalization, huang2018, §3: ZCA whitening of groups of channels."""

from __future__ import annotations

import numpy as np

from oracles.common import averaged, places, scale_shift

INVARIANT = {"scale", "shift", "weight"}

VARIANTS = ({"group_size": 3, "eps": 0.1}, {"group_size": 1}, {"group_size": 2, "momentum": 0.7})


def whitening(covariance, eps):
    values, vectors = np.linalg.eigh(covariance + eps * np.eye(len(covariance)))
    return vectors @ np.diag(values**-0.5) @ vectors.T


def groups(x, size):
    size = size or max(s for s in range(1, 17) if x.shape[1] % s == 0)
    return [slice(start, start + size) for start in range(0, x.shape[1], size)]


def statistics(x, eps, matrix):
    """Mean and whitening matrix of one group, x: (N, d, *spatial)."""
    vectors = np.array([x[(n, slice(None), *p)] for n in range(len(x)) for p in places(x)])
    mean = vectors.mean(0)
    covariance = sum(np.outer(v - mean, v - mean) for v in vectors) / len(vectors)
    return mean, matrix(covariance, eps)


def whitened(x, mean, matrix):
    y = np.full_like(x, np.nan)
    for n in range(len(x)):
        for p in places(x):
            y[(n, slice(None), *p)] = matrix @ (x[(n, slice(None), *p)] - mean)
    return y


def output(x, weight, bias, group_size=None, eps=1e-5, momentum=0.1, matrix=whitening):
    y = np.full_like(x, np.nan)
    for group in groups(x, group_size):
        y[:, group] = whitened(x[:, group], *statistics(x[:, group], eps, matrix))
    return scale_shift(y, weight, bias)


def evaluated(xs, x, weight, bias, group_size=None, eps=1e-5, momentum=0.1, matrix=whitening):
    y = np.full_like(x, np.nan)
    for group in groups(x, group_size):
        means, matrices = zip(*(statistics(batch[:, group], eps, matrix) for batch in xs), strict=True)
        mean = averaged(np.zeros(len(means[0])), means, momentum)
        y[:, group] = whitened(x[:, group], mean, averaged(np.eye(len(mean)), matrices, momentum))
    return scale_shift(y, weight, bias)
