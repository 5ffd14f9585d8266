"""Batch renormalization, ioffe2017, Algorithm 1; with constant limits, as if nobody calls begin_step."""

from __future__ import annotations

import numpy as np

from oracles.common import by_running, channel_sets, moments

VARIANTS = (
    {"momentum": 0.7, "renorm_momentum": 0.3, "eps": 0.1},
    {"r_max": 1.1, "d_max": 0.2, "renorm_momentum": "cumulative"},
    {"r_max": 1e6, "d_max": 1e6, "renorm_momentum": 0.5},
)
DEBIASED = "debiased:0.01"


def weights(momentum, steps):
    """The weight of each new batch, in turn."""
    if momentum == "cumulative":
        return [1 / t for t in range(1, steps + 1)]
    if isinstance(momentum, str):
        kept = 1 - float(momentum.removeprefix("debiased:"))
        return [1 / sum(kept**i for i in range(t)) for t in range(1, steps + 1)]
    return [momentum] * steps


def averages(start, news, momentum):
    """An average before the first batch and after every one."""
    found = [np.array(start, dtype=float)]
    for weight, new in zip(weights(momentum, len(news)), news, strict=True):
        found.append((1 - weight) * found[-1] + weight * new)
    return found


def steps(xs, eps, r_max, d_max, renorm_momentum):
    """For every batch and channel: its indices, μ_B, σ_B, r and d."""
    found = []
    for channel in range(xs[0].shape[1]):
        batches = []
        for x in xs:
            indices = channel_sets(x)[channel]
            values = [x[i] for i in indices]
            mean = sum(values) / len(values)
            std = (eps + sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5
            batches.append((indices, mean, std))
        before = zip(
            averages(0, [mean for _, mean, _ in batches], renorm_momentum),
            averages(1, [std for _, _, std in batches], renorm_momentum),
            strict=True,
        )
        for step, ((indices, mean, std), (mu, sigma)) in enumerate(zip(batches, before, strict=False)):
            r = min(max(std / sigma, 1 / r_max), r_max)
            d = min(max((mean - mu) / sigma, -d_max), d_max)
            found.append((step, channel, indices, mean, std, r, d))
    return found


def outputs(xs, weight, bias, eps=1e-3, r_max=3.0, d_max=5.0, renorm_momentum=DEBIASED, momentum=None):
    ys = [np.full_like(x, np.nan) for x in xs]
    for step, c, indices, mean, std, r, d in steps(xs, eps, r_max, d_max, renorm_momentum):
        for i in indices:
            ys[step][i] = weight[c] * ((xs[step][i] - mean) / std * r + d) + bias[c]
    return ys


def gradients(xs, gs, weight, bias, eps=1e-3, r_max=3.0, d_max=5.0, renorm_momentum=DEBIASED, momentum=None):
    """Those of batch norm with γ r for γ: r and d are constants."""
    grads = [np.full_like(x, np.nan) for x in xs]
    for step, c, indices, mean, std, r, _ in steps(xs, eps, r_max, d_max, renorm_momentum):
        x, g, m = xs[step], gs[step], len(indices)
        centred = sum(g[i] for i in indices) / m
        along = sum(g[i] * (x[i] - mean) / std for i in indices) / m
        for i in indices:
            grads[step][i] = weight[c] * r / std * (g[i] - centred - (x[i] - mean) / std * along)
    return grads


def evaluated(xs, x, weight, bias, eps=1e-3, momentum=DEBIASED, **limits):
    means, variances = zip(*map(moments, xs), strict=True)
    mean, var = (averages(s, new, momentum)[-1] for s, new in ((0, means), (1, variances)))
    return by_running(x, mean, var, weight, bias, eps)
