"""The statistics of tables: mean, spread, interval, paired comparison, correction for many comparisons.

Means and deviations are exact sums of fractions, rounded once: the deviation of equal values is 0. Results
carry twelve digits, because later digits differ between machines. scipy is imported inside the functions that
need it: a table of one seed starts without it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

LEVEL = 0.05
MIN_SEEDS = 3  # with fewer, no significance is claimed


class Summary(NamedTuple):
    """Some values: count, mean, standard deviation (n − 1), 95 % t-interval of the mean."""

    n: int
    mean: float | None
    sd: float | None
    ci95: tuple[float, float] | None


EMPTY = Summary(0, None, None, None)


class Paired(NamedTuple):
    """A paired comparison of a with b: pairs, mean of a − b, p for a ≠ b, p for a > b."""

    n: int
    difference: float
    p_two_sided: float | None
    p_greater: float | None


def summarize(values: Sequence[float]) -> Summary:
    """Mean, sd and 95 % interval. None stands for what needs more values, or leaves the finite numbers.

    >>> summarize([1.0, 2.0, 3.0])[:3]
    (3, 2.0, 1.0)
    >>> summarize([1.0])
    Summary(n=1, mean=1.0, sd=None, ci95=None)
    """
    n = len(values)
    if n == 0:
        return EMPTY
    mean = float(statistics.mean(values))
    if n == 1:
        return Summary(1, _tidy(mean), None, None)
    from scipy.special import stdtrit

    sd = statistics.stdev(values)
    half = float(stdtrit(n - 1, 0.975)) * sd / math.sqrt(n)
    interval = (_tidy(mean - half), _tidy(mean + half))
    return Summary(n, _tidy(mean), _tidy(sd), interval if all(map(math.isfinite, interval)) else None)


def compare(a: Mapping[int, float], b: Mapping[int, float]) -> Paired | None:
    """Paired t-test of a against b over the seeds that both have; None if they share no seed.

    p is None for a single pair. If all differences are equal, there is no t statistic (test errors come in
    steps of one image, so this happens). p is then that of the exact sign-flip test: 2⁻ⁿ one-sided, and 1 for
    a difference of zero.
    """
    common = sorted(a.keys() & b.keys())
    n = len(common)
    if n == 0:
        return None
    differences = [a[seed] - b[seed] for seed in common]
    mean = float(statistics.mean(differences))
    if n == 1:
        return Paired(1, mean, None, None)
    sd = statistics.stdev(differences)
    rounding = 1e-12 * max(abs(values[seed]) for values in (a, b) for seed in common)
    if sd <= rounding:
        if abs(mean) <= rounding:
            return Paired(n, mean, 1.0, 1.0)
        return Paired(n, mean, 2 * 0.5**n, 0.5**n if mean > 0 else 1.0)
    from scipy.special import stdtr

    t = mean / (sd / math.sqrt(n))
    return Paired(n, mean, _tidy(2 * float(stdtr(n - 1, -abs(t)))), _tidy(float(stdtr(n - 1, -t))))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's step-down method, in the order given.

    With m values in ascending order, adjusted p_(i) = max over j ≤ i of min(1, (m − j + 1) p_(j)).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]

    Reference: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    ascending = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for place, index in enumerate(ascending):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _tidy(number: float) -> float:
    return float(f"{number:.12g}")
