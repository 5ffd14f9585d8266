"""Online normalization, chiley2019: image after image."""

from __future__ import annotations

import numpy as np

from oracles.common import scale_shift

VARIANTS = (
    {"momentum": 0.2, "gradient_momentum": 0.3, "eps": 0.1},
    {"guard": "clamp", "momentum": 0.5},
    {"guard": "none", "gradient_momentum": 0.5},
)


def guarded(y, guard, eps):
    """The guard's output for an image, and the gradient of its input."""
    if guard == "none":
        return y, lambda g: g
    if guard == "clamp":
        return np.clip(y, -5, 5), lambda g: np.where(np.abs(y) < 5, g, 0)
    root = np.sqrt((y**2).mean() + eps)
    return y / root, lambda g: (g - y / root * (g * y / root).mean()) / root


def run(xs, gs, weight, bias, momentum=0.001, gradient_momentum=0.01, guard="scaling", eps=1e-5):
    channels = xs[0].shape[1]
    alpha, beta = 1 - momentum, 1 - gradient_momentum
    mean, var, error, drift = np.zeros(channels), np.ones(channels), np.zeros(channels), np.zeros(channels)
    ys, grads = [], []
    for x, upstream in zip(xs, gs, strict=True):
        y, grad = np.empty_like(x), np.empty_like(x)
        for t in range(len(x)):
            z, scale = np.empty_like(x[t]), np.sqrt(var + eps)
            for c in range(channels):
                z[c] = (x[t, c] - mean[c]) / scale[c]
                off = x[t, c].mean() - mean[c]
                var[c] = alpha * var[c] + (1 - alpha) * x[t, c].var() + alpha * (1 - alpha) * off**2
                mean[c] = alpha * mean[c] + (1 - alpha) * x[t, c].mean()
            y[t], back = guarded(scale_shift(z[None], weight, bias)[0], guard, eps)
            g = back(upstream[t])
            for c in range(channels):
                held = weight[c] * g[c] - (1 - beta) * error[c] * z[c]
                error[c] += (held * z[c]).mean()
                grad[t, c] = held / scale[c] - (1 - beta) * drift[c]
                drift[c] += grad[t, c].mean()
        ys.append(y)
        grads.append(grad)
    return ys, grads, mean, var


def outputs(xs, weight, bias, **args):
    return run(xs, xs, weight, bias, **args)[0]


def gradients(xs, gs, weight, bias, **args):
    return run(xs, gs, weight, bias, **args)[1]


def evaluated(xs, x, weight, bias, guard="scaling", eps=1e-5, **args):
    *_, mean, var = run(xs, xs, weight, bias, guard=guard, eps=eps, **args)
    z = np.stack([(x[:, c] - mean[c]) / np.sqrt(var[c] + eps) for c in range(len(mean))], 1)
    return np.stack([guarded(image, guard, eps)[0] for image in scale_shift(z, weight, bias)])
