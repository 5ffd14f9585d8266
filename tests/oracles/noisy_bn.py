"""Noisy batch normalization, santurkar2018; of ours only the uniform numbers, for seed 0 and no site."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import ndtri

from normbench.rng import lane_keys, uniform
from oracles import bn

INVARIANT = {"scale", "shift", "weight", "filters"}

VARIANTS = (
    {"n_mu": 2.0, "n_sigma": 3.0, "r_mu": 0.0, "r_sigma": 0.0},
    {"n_mu": 0.0, "n_sigma": 1.0, "r_mu": 1.0, "r_sigma": 0.5, "momentum": 0.3},
)


def drawn(*counters, count):
    numbers = uniform(lane_keys([0], "noisy_bn/"), *counters, count=count, dtype=torch.float64)
    return numbers[0].tolist()


def noisy(y, step, n_mu, n_sigma, r_mu, r_sigma):
    """Each value's 53 bits: the first 29 place it around the mean, the last 24 are its scale's quantile."""
    channels = y.shape[1]
    wide, own = drawn(step, 0, count=2 * channels), drawn(step, 1, count=y.size)
    z = np.empty_like(y)
    for number, index in zip(own, np.ndindex(y.shape), strict=True):
        c, word = index[1], int(number * 2**53)
        first, last = word // 2**24 / 2**29, (word % 2**24 + 0.5) / 2**24
        mean = -n_mu + 2 * n_mu * wide[c]
        scale = 1 + (n_sigma - 1) * wide[channels + c]
        m = mean - r_mu + 2 * r_mu * first
        s = scale + r_sigma * ndtri(last)
        z[index] = s * y[index] + m
    return z


def outputs(xs, weight, bias, n_mu=0.5, n_sigma=1.25, r_mu=0.1, r_sigma=0.1, momentum=0.1):
    return [
        noisy(bn.output(x, weight, bias), step, n_mu, n_sigma, r_mu, r_sigma) for step, x in enumerate(xs, 1)
    ]


def evaluated(xs, x, weight, bias, momentum=0.1, **noise):
    return bn.evaluated(xs, x, weight, bias, momentum=momentum)
