"""Switchable normalization, luo2019, eqs. (3) and (5), with biased variances."""

from __future__ import annotations

import numpy as np

from oracles.common import averaged, channel_sets, moments, places, scale_shift

INVARIANT = {"scale", "shift", "weight"}

VARIANTS = ({"eps": 0.1, "momentum": 0.4}, {"batch": 2})


def chunks(x, batch):
    size = batch or len(x)
    return [x[start : start + size] for start in range(0, len(x), size)]


def biased(values):
    mean = sum(values) / len(values)
    return mean, sum((value - mean) ** 2 for value in values) / len(values)


def shares(logits):
    powers = [np.exp(logit) for logit in logits]
    return [power / sum(powers) for power in powers]


def mixed(x, bn, weight, bias, mean_logits, var_logits, eps):
    """bn: mean and variance of every channel, as the batch-norm part has them."""
    y, channels, alone = np.empty_like(x), range(x.shape[1]), len(places(x)) == 1
    for n in range(len(x)):
        layer = biased([x[(n, c, *p)] for c in channels for p in places(x)])
        for c in channels:
            parts = [biased([x[(n, c, *p)] for p in places(x)]), layer, bn[c]][alone:]
            mean = sum(w * part[0] for w, part in zip(shares(mean_logits[alone:]), parts, strict=True))
            var = sum(w * part[1] for w, part in zip(shares(var_logits[alone:]), parts, strict=True))
            for p in places(x):
                y[(n, c, *p)] = (x[(n, c, *p)] - mean) / (var + eps) ** 0.5
    return scale_shift(y, weight, bias)


def output(x, weight, bias, mean_logits, var_logits, eps=1e-5, momentum=0.1, batch=None):
    return np.concatenate([
        mixed(
            part, [biased([part[i] for i in indices]) for indices in channel_sets(part)],
            weight, bias, mean_logits, var_logits, eps,
        )
        for part in chunks(x, batch)
    ])  # fmt: skip


def evaluated(xs, x, weight, bias, mean_logits, var_logits, eps=1e-5, momentum=0.1, batch=None):
    def new(which):
        return [np.mean([moments(part)[which] for part in chunks(past, batch)], 0) for past in xs]

    mean, var = averaged([0] * x.shape[1], new(0), momentum), averaged([1] * x.shape[1], new(1), momentum)
    return mixed(x, list(zip(mean, var, strict=True)), weight, bias, mean_logits, var_logits, eps)
