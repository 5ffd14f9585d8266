"""Power normalization, shen2020, after one batch of PN-V."""

from __future__ import annotations

import numpy as np

from oracles.common import averaged, by_channel, places, scale_shift

INVARIANT = {"scale", "weight"}

VARIANTS = (
    {"scaling": False, "momentum": 0.4, "gradient_momentum": 0.3},
    {"eps": 0.1, "gradient_momentum": 0.6},
)


def scaled(x, scaling, eps):
    """Every position divided by the RMS of its channels, and the gradient of the input."""
    if not scaling:
        return x, lambda g: g
    root = np.empty((len(x), 1, *x.shape[2:]))
    for n in range(len(x)):
        for p in places(x):
            root[(n, 0, *p)] = (sum(v**2 for v in x[(n, slice(None), *p)]) / x.shape[1] + eps) ** 0.5
    y = x / root

    def back(g):
        return (g - y * (g * y).mean(1, keepdims=True)) / root

    return y, back


def run(xs, gs, weight, bias, momentum=0.1, gradient_momentum=0.1, scaling=True, eps=1e-5):
    channels = xs[0].shape[1]
    phi, nu = None, np.zeros(channels)
    ys, grads = [], []
    for x, upstream in zip(xs, gs, strict=True):
        x, back = scaled(x, scaling, eps)
        own = np.array([(v**2).mean() for v in by_channel(x)])
        z, grad, used = np.empty_like(x), np.empty_like(x), own if phi is None else phi
        for c in range(channels):
            z[:, c] = x[:, c] / np.sqrt(used[c] + eps)
            g = weight[c] * upstream[:, c]
            product = (g * z[:, c]).mean()
            projection = product if phi is None else nu[c]
            grad[:, c] = (g - projection * z[:, c]) / np.sqrt(used[c] + eps)
            nu[c] = nu[c] * (1 - gradient_momentum * (z[:, c] ** 2).mean()) + gradient_momentum * product
        phi = own if phi is None else averaged(phi, [own], momentum)
        ys.append(scale_shift(z, weight, bias))
        grads.append(back(grad))
    return ys, grads, phi


def outputs(xs, weight, bias, **args):
    return run(xs, xs, weight, bias, **args)[0]


def gradients(xs, gs, weight, bias, **args):
    return run(xs, gs, weight, bias, **args)[1]


def evaluated(xs, x, weight, bias, scaling=True, eps=1e-5, **args):
    phi = run(xs, xs, weight, bias, scaling=scaling, eps=eps, **args)[2]
    x, _ = scaled(x, scaling, eps)
    return scale_shift(np.stack([x[:, c] / np.sqrt(phi[c] + eps) for c in range(len(phi))], 1), weight, bias)
