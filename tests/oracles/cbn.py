"""Cross-iteration batch normalization, yao2021, without compensation (naive CBN); window=1 is batch norm."""

from __future__ import annotations

import numpy as np

from oracles import bn
from oracles.common import by_channel, scale_shift

INVARIANT = {"scale", "shift", "weight", "filters"}

FITTING = {"window": 2, "compensate": False}
VARIANTS = (
    {"window": 2, "compensate": False, "eps": 0.1},
    {"window": 3, "compensate": False, "momentum": 0.7},
    {"window": 1},
)


def outputs(xs, weight, bias, window, eps=1e-5, momentum=0.1, compensate=True):
    means = [np.array([v.mean() for v in by_channel(x)]) for x in xs]
    squares = [np.array([(v**2).mean() for v in by_channel(x)]) for x in xs]
    ys = []
    for t, x in enumerate(xs):
        taken = slice(t - window + 1, t + 1) if t >= window - 1 else slice(t, t + 1)
        mean, square = np.mean(means[taken], 0), np.mean(squares[taken], 0)
        z = np.empty_like(x)
        for c in range(x.shape[1]):
            z[:, c] = (x[:, c] - mean[c]) / np.sqrt(square[c] - mean[c] ** 2 + eps)
        ys.append(scale_shift(z, weight, bias))
    return ys


def evaluated(xs, x, weight, bias, window, eps=1e-5, momentum=0.1, compensate=True):
    return bn.evaluated(xs, x, weight, bias, eps, momentum)


def moved(patches, thetas, biases, window):
    """Mean and variance that normalize the last batch, of one channel whose filter was trained on the way.

    Args:
        patches: by step, what the filter saw: (values, fan_in).
        thetas:  by step, its weights: (fan_in,).
        biases:  by step, its bias.
    """
    now, means, squares = thetas[-1], [], []
    for seen, theta, bias in list(zip(patches, thetas, biases, strict=True))[-window:]:
        x = seen @ theta + bias
        mean, square = x.mean(), (x**2).mean()
        mean_slope = np.array([seen[:, i].mean() for i in range(len(theta))])
        square_slope = np.array([(2 * x * seen[:, i]).mean() for i in range(len(theta))])
        mean += mean_slope @ (now - theta)
        square += square_slope @ (now - theta)
        means.append(mean)
        squares.append(max(square, mean**2))
    return np.mean(means), np.mean(squares) - np.mean(means) ** 2
