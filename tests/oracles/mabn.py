"""Moving average batch normalization, yan2020; before the buffer is full the batch's own statistics."""

from __future__ import annotations

import numpy as np

from oracles.common import averaged, by_channel, scale_shift

INVARIANT = {"scale", "weight", "filters"}

FITTING = {"buffer": 2}
VARIANTS = (
    {"buffer": 1, "momentum": 0.5},
    {"buffer": 2, "momentum": 0.3},
    {"buffer": 3, "eps": 0.1, "clip": 1.01},
)


def run(xs, gs, weight, bias, buffer=16, momentum=0.02, clip=5.0, eps=1e-5):
    squares, projections, running = [], [], None
    ys, grads = [], []
    for x, upstream in zip(xs, gs, strict=True):
        squares.append(np.array([(v**2).mean() for v in by_channel(x)]))
        full = len(squares) >= buffer
        square, r = squares[-1], np.ones(x.shape[1])
        if full:
            square = sum(squares[-buffer:]) / buffer
        if full and running is not None:
            unbounded = np.sqrt(square + eps) / np.sqrt(running + eps)
            r = np.array([min(max(value, 1 / clip), clip) for value in unbounded])
        running = square if running is None else averaged(running, [square], momentum)
        z, g, grad = np.empty_like(x), np.empty_like(x), np.empty_like(x)
        for c in range(x.shape[1]):
            z[:, c] = x[:, c] / np.sqrt(square[c] + eps)
            g[:, c] = weight[c] * r[c] * upstream[:, c]
        projections.append(np.array([v.mean() for v in by_channel(g * z)]))
        projection = sum(projections[-buffer:]) / buffer if full else projections[-1]
        for c in range(x.shape[1]):
            grad[:, c] = (g[:, c] - projection[c] * z[:, c]) / np.sqrt(square[c] + eps)
        ys.append(scale_shift(np.stack([r[c] * z[:, c] for c in range(len(r))], 1), weight, bias))
        grads.append(grad)
    return ys, grads, running


def outputs(xs, weight, bias, **args):
    return run(xs, xs, weight, bias, **args)[0]


def gradients(xs, gs, weight, bias, **args):
    return run(xs, gs, weight, bias, **args)[1]


def evaluated(xs, x, weight, bias, eps=1e-5, **args):
    square = run(xs, xs, weight, bias, eps=eps, **args)[2]
    y = np.stack([x[:, c] / np.sqrt(square[c] + eps) for c in range(len(square))], 1)
    return scale_shift(y, weight, bias)
