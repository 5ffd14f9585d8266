"""Mixture normalization, kalayeh2019: fitted in the units of x; responsibilities are constants backward."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from oracles.common import averaged, moments, places, scale_shift

INVARIANT = {"scale", "shift", "weight", "filters"}

VARIANTS = (
    {"components": 1},
    {"components": 2, "eps": 0.1},
    {"iterations": 1},
    {"iterations": 6, "momentum": 0.7},
)


def rows(x):
    """(m, C): the channels of every position."""
    return np.array([x[(n, slice(None), *p)] for n in range(len(x)) for p in places(x)])


def unrows(vectors, x):
    y = np.full_like(x, np.nan)
    for vector, (n, p) in zip(vectors, [(n, p) for n in range(len(x)) for p in places(x)], strict=True):
        y[(n, slice(None), *p)] = vector
    return y


def responsibilities(vectors, share, mean, var):
    """(m, J) from densities with diagonal covariance."""
    logs = np.empty((len(vectors), len(share)))
    for i, v in enumerate(vectors):
        for j in range(len(share)):
            logs[i, j] = np.log(share[j]) - sum(np.log(var[j]) + (v - mean[j]) ** 2 / var[j]) / 2
    p = np.exp(logs - logs.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def maximized(vectors, p, eps):
    """Components by their responsibilities; no variance below a hundredth of the batch's."""
    share = p.mean(0)
    mean = np.array([sum(p[:, j, None] * vectors) / p[:, j].sum() for j in range(p.shape[1])])
    var = np.array(
        [sum(p[:, j, None] * (vectors - mean[j]) ** 2) / p[:, j].sum() + eps for j in range(p.shape[1])]
    )
    return share, mean, np.maximum(var, 0.01 * (vectors.var(0) + eps))


def fitted(vectors, start, iterations, eps):
    """Responsibilities and components of a batch, from components relative to its mean and variance."""
    centre, spread = vectors.mean(0), vectors.var(0) + eps
    share, offset, ratio = start
    mean, var = centre + offset * np.sqrt(spread), ratio * spread
    for _ in range(iterations):
        p = responsibilities(vectors, share, mean, var)
        share, mean, var = maximized(vectors, p, eps)
    return p, share, mean, var, ((mean - centre) / np.sqrt(spread), var / spread)


def initial(components, channels):
    quantiles = [NormalDist().inv_cdf((j + 0.5) / components) for j in range(components)]
    offset = np.outer(quantiles, np.ones(channels)) / np.sqrt(channels)
    start = np.full(components, 1 / components), offset, np.ones((components, channels))
    return [np.float64(np.float32(state)) for state in start]  # a layer is built in fp32


def mixed(vectors, p, share, mean, var):
    return sum(p[:, [j]] / share[j] ** 0.5 * (vectors - mean[j]) / np.sqrt(var[j]) for j in range(len(share)))


def trained(xs, components, iterations, eps, momentum):
    """What was fitted to every batch, and the running components in the end."""
    state = initial(components, xs[0].shape[1])
    fits = []
    for x in xs:
        p, share, mean, var, relative = fitted(rows(x), state, iterations, eps)
        fits.append((p, share, mean, var))
        state = [averaged(old, [new], momentum) for old, new in zip(state, (share, *relative), strict=True)]
    return fits, state


def outputs(xs, weight, bias, components=3, iterations=3, eps=1e-5, momentum=0.1):
    fits, _ = trained(xs, components, iterations, eps, momentum)
    return [
        scale_shift(unrows(mixed(rows(x), *fit), x), weight, bias) for x, fit in zip(xs, fits, strict=True)
    ]


def evaluated(xs, x, weight, bias, components=3, iterations=3, eps=1e-5, momentum=0.1):
    _, (share, offset, ratio) = trained(xs, components, iterations, eps, momentum)
    means, variances = zip(*map(moments, xs), strict=True)
    centre = averaged(np.zeros(x.shape[1]), means, momentum)
    spread = averaged(np.ones(x.shape[1]), variances, momentum) + eps
    mean, var = centre + offset * np.sqrt(spread), ratio * spread
    p = responsibilities(rows(x), share, mean, var)
    return scale_shift(unrows(mixed(rows(x), p, share, mean, var), x), weight, bias)


def gradients(xs, gs, weight, bias, components=3, iterations=3, eps=1e-5, momentum=0.1):
    """For every component that of a batch norm whose positions weigh p / Σ p."""
    fits, _ = trained(xs, components, iterations, eps, momentum)
    grads = []
    for x, g, (p, share, mean, var) in zip(xs, gs, fits, strict=True):
        vectors, upstream = rows(x), rows(g) * weight
        grad = np.zeros_like(vectors)
        for j in range(components):
            standard = (vectors - mean[j]) / np.sqrt(var[j])
            part = upstream * p[:, [j]] / share[j] ** 0.5
            nu = p[:, [j]] / p[:, j].sum()
            free = var[j] > 0.01 * (vectors.var(0) + eps) * (1 + 1e-12)
            by_var = free * nu * standard * (part * standard).sum(0)
            grad += (part - nu * part.sum(0) - by_var) / np.sqrt(var[j])
        grads.append(unrows(grad, x))
    return grads
