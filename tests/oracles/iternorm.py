"""Iterative normalization, huang2019, Algorithm 1, its recursion as printed."""

from __future__ import annotations

import numpy as np

from oracles import dbn

INVARIANT = {"scale", "shift", "weight"}

VARIANTS = (
    {"group_size": 3, "eps": 0.1}, {"group_size": 1}, {"group_size": 2, "momentum": 0.7}, {"iterations": 0},
    {"iterations": 1}, {"iterations": 3, "group_size": 3},
)  # fmt: skip


def newton(iterations):
    def whitening(covariance, eps):
        covariance = covariance + eps * np.eye(len(covariance))
        trace = np.trace(covariance)
        root = np.eye(len(covariance))
        for _ in range(iterations):
            root = 0.5 * (3 * root - root @ root @ root @ covariance / trace)
        return root / np.sqrt(trace)

    return whitening


def output(x, weight, bias, iterations=5, **args):
    return dbn.output(x, weight, bias, matrix=newton(iterations), **args)


def evaluated(xs, x, weight, bias, iterations=5, **args):
    return dbn.evaluated(xs, x, weight, bias, matrix=newton(iterations), **args)
