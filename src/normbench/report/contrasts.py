"""Paired differences against a margin: estimate, interval, and the p-values of both directions.

`docs/statistics.md` says how verdicts follow from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

Test = Literal["t", "permutation", "sign"]

#: Sign-flip tests are exact up to this many pairs; with more, this power of 2 of random flips is drawn.
EXACT_PAIRS = 13
_ROUNDING = 1e-12


class Contrast(NamedTuple):
    """Differences of pairs, compared with a margin.

    Attributes:
        n:        number of pairs.
        mean:     mean difference; None without pairs, or if a difference is infinite.
        sd:       standard deviation of the differences (n − 1); None for n < 2.
        interval: 95 % interval of the mean; None if there is none.
        margin:   what the mean is compared with.
        p_above:  one-sided p of "the mean is at most the margin"; small if the mean is above.
        p_below:  one-sided p of "the mean is at least the margin"; small if the mean is below.
        test:     the test that gave the p-values. sign: the exact sign test or sign-flip test.
        smallest: the smallest p that this test can give with n pairs.
    """

    n: int
    mean: float | None
    sd: float | None
    interval: tuple[float, float] | None
    margin: float
    p_above: float
    p_below: float
    test: Test
    smallest: float


def paired(a: Mapping[int, float], b: Mapping[int, float]) -> list[float]:
    """a − b for the seeds that both have, in their order; pairs that are both infinite are left out."""
    differences = [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]
    return [each for each in differences if not math.isnan(each)]


def against(differences: Sequence[float], margin: float, test: Test = "t") -> Contrast:
    """Compare the mean of paired differences with a margin.

    The t-test has t = (mean − margin) / (sd / √n) with n − 1 degrees of freedom. If all differences are
    equal, there is no t, and the exact sign-flip test decides: 2⁻ⁿ in the direction of the difference.
    Infinite differences are compared by the exact sign test.

    Args:
        differences: of pairs; see `paired`.
        test:        t, permutation (sign-flip test) or sign.

    References: Student 1908; Fisher 1935, The Design of Experiments, section 21 (sign-flip test).
    """
    n = len(differences)
    if n == 0:
        return Contrast(0, None, None, None, margin, 1.0, 1.0, test, 1.0)
    if test == "sign" or not all(map(math.isfinite, differences)):
        return _sign(differences, margin)
    mean = math.fsum(differences) / n
    if n == 1:
        return Contrast(1, _tidy(mean), None, None, margin, 1.0, 1.0, test, 1.0)
    sd = math.sqrt(math.fsum((each - mean) ** 2 for each in differences) / (n - 1))
    scale = max(abs(margin), max(map(abs, differences)))
    if sd <= _ROUNDING * scale:
        return _equal(n, mean, margin, scale)
    if test == "permutation":
        above, below = _flips(differences, margin)
        interval = _bootstrap(differences)
        return Contrast(n, _tidy(mean), _tidy(sd), interval, margin, above, below, test, 0.5**n)
    from scipy.special import stdtr, stdtrit

    error = sd / math.sqrt(n)
    t = (mean - margin) / error
    half = float(stdtrit(n - 1, 0.975)) * error
    above, below = float(stdtr(n - 1, -t)), float(stdtr(n - 1, t))
    interval = (_tidy(mean - half), _tidy(mean + half))
    return Contrast(n, _tidy(mean), _tidy(sd), interval, margin, _tidy(above), _tidy(below), "t", 0.0)


def _equal(n: int, mean: float, margin: float, scale: float) -> Contrast:
    """All differences are equal: the sign-flip test, in which 1 of 2ⁿ assignments is as extreme."""
    beyond = mean - margin
    if abs(beyond) <= _ROUNDING * scale:
        above = below = 1.0
    else:
        above, below = (0.5**n, 1.0) if beyond > 0 else (1.0, 0.5**n)
    mean = _tidy(mean)
    return Contrast(n, mean, 0.0, (mean, mean), margin, above, below, "sign", 0.5**n)


def _sign(differences: Sequence[float], margin: float) -> Contrast:
    """The exact sign test; differences that equal the margin are left out."""
    from scipy.special import bdtr, bdtrc

    above = sum(each > margin for each in differences)
    n = above + sum(each < margin for each in differences)
    mean = math.fsum(differences) / len(differences) if all(map(math.isfinite, differences)) else None
    if n == 0:
        return Contrast(len(differences), mean, None, None, margin, 1.0, 1.0, "sign", 1.0)
    p_above = 1.0 if above == 0 else float(bdtrc(above - 1, n, 0.5))
    p_below = float(bdtr(above, n, 0.5))
    return Contrast(
        len(differences), mean, None, None, margin, _tidy(p_above), _tidy(p_below), "sign", 0.5**n
    )


def _flips(differences: Sequence[float], margin: float) -> tuple[float, float]:
    """p-values of the sign-flip test of the mean against the margin, in both directions."""
    import numpy as np
    from scipy.stats import permutation_test

    shifted = np.array(differences) - margin
    found = [
        permutation_test(
            (shifted,),
            lambda x, axis: np.mean(x, axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=2**EXACT_PAIRS,
            alternative=alternative,
            rng=np.random.default_rng(0),
        ).pvalue
        for alternative in ("greater", "less")
    ]
    return _tidy(float(found[0])), _tidy(float(found[1]))


def _bootstrap(differences: Sequence[float]) -> tuple[float, float] | None:
    """95 % BCa bootstrap interval of the mean; None for fewer than three pairs.

    Reference: Efron 1987, Better Bootstrap Confidence Intervals.
    """
    import numpy as np
    from scipy.stats import bootstrap

    if len(differences) < 3:
        return None
    rng = np.random.default_rng(0)
    found = bootstrap((np.array(differences),), np.mean, method="BCa", rng=rng).confidence_interval
    low, high = float(found.low), float(found.high)
    return (_tidy(low), _tidy(high)) if math.isfinite(low) and math.isfinite(high) else None


def _tidy(number: float) -> float:
    return float(f"{number:.12g}")
