"""Streaming normalization, liao2016: every statistic is a stream, and so is its gradient."""

from __future__ import annotations

import numpy as np

from oracles.common import by_channel, by_running, scale_shift

INVARIANT = {"scale", "shift", "weight", "filters"}

VARIANTS = (
    {"alpha1": 0.7, "beta1": 0.7, "beta2": 0.0, "momentum": 0.4},
    {"forwards_per_step": 2, "alpha1": 0.2, "beta1": 0.3, "beta2": 0.4},
    {"p": 1, "eps": 0.1, "alpha1": 0.6, "beta1": 0.2, "beta2": 0.1},
)


class Stream:
    """The values of one quantity since training began, kept whole: the long-term value is made from them."""

    def __init__(self, period, momentum):
        self.values, self.period, self.momentum = [], period, momentum

    def long(self):
        """Exponential average over the complete weight updates, None before the first."""
        long, complete = None, len(self.values) // self.period
        for update in range(complete):
            short = np.mean(self.values[update * self.period : (update + 1) * self.period], axis=0)
            long = short if long is None else (1 - self.momentum) * long + self.momentum * short
        return long

    def take(self, value, of_long, of_short):
        long = self.long()
        self.values.append(value)
        begun = (len(self.values) - 1) // self.period * self.period
        short = np.mean(self.values[begun:], axis=0)
        if long is None:
            long = short
        return of_long * long + of_short * short + (1 - of_long - of_short) * value


def statistics(x, p, eps):
    mean = np.array([v.mean() for v in by_channel(x)])
    if p == 1:
        return mean, np.array([np.abs(v - v.mean()).mean() + eps for v in by_channel(x)])
    return mean, np.array([np.sqrt(((v - v.mean()) ** 2).mean() + eps) for v in by_channel(x)])


def run(xs, gs, weight, bias, alpha1, beta1, beta2, momentum, eps, p, forwards_per_step):
    streams = [[Stream(forwards_per_step, momentum) for _ in range(2)] for _ in range(2)]
    ys, grads = [], []
    for x, g in zip(xs, gs, strict=True):
        now = statistics(x, p, eps)
        mean, dev = (s.take(v, alpha1, 1 - alpha1) for s, v in zip(streams[0], now, strict=True))
        y, grad = np.empty_like(x), np.empty_like(x)
        sums = [np.zeros(x.shape[1]), np.zeros(x.shape[1])]
        for c in range(x.shape[1]):
            y[:, c] = (x[:, c] - mean[c]) / dev[c]
            upstream = g[:, c] * weight[c]
            sums[0][c] = -(upstream / dev[c]).sum()
            sums[1][c] = -(upstream * (x[:, c] - mean[c])).sum() / dev[c] ** 2
        g_mean, g_dev = (s.take(v, beta1, beta2) for s, v in zip(streams[1], sums, strict=True))
        for c in range(x.shape[1]):
            off, m = x[:, c] - now[0][c], x[:, c].size
            by_p = {1: np.sign(off) - np.sign(off).mean(), 2: off / now[1][c]}  # m ∂σ/∂x
            grad[:, c] = g[:, c] * weight[c] / dev[c] + g_mean[c] / m + g_dev[c] * by_p[p] / m
        ys.append(scale_shift(y, weight, bias))
        grads.append(grad)
    return ys, grads, streams[0]


def filled(alpha1=0.5, beta1=0.5, beta2=0.5, momentum=0.3, eps=1e-5, p=2, forwards_per_step=1):
    return (alpha1, beta1, beta2, momentum, eps, p, forwards_per_step)


def outputs(xs, weight, bias, **args):
    return run(xs, xs, weight, bias, *filled(**args))[0]


def gradients(xs, gs, weight, bias, **args):
    return run(xs, gs, weight, bias, *filled(**args))[1]


def evaluated(xs, x, weight, bias, **args):
    mean, dev = (stream.long() for stream in run(xs, xs, weight, bias, *filled(**args))[2])
    return by_running(x, mean, dev**2, weight, bias, 0.0)
