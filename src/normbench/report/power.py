"""How many seeds decide, and how small a difference a number of seeds can see.

Both are for the one-sided paired t-test. Its power at a true difference δ is that of the noncentral t
distribution with n − 1 degrees of freedom and noncentrality δ √n / sd.

Reference: Cohen 1988, Statistical Power Analysis for the Behavioral Sciences, chapter 2.
"""

from __future__ import annotations

import math

#: Probability of a verdict that is asked of a number of seeds.
POWER = 0.8
#: More seeds than this are not worth a number.
MOST = 1000


def power(n: int, beyond: float, sd: float, level: float) -> float:
    """Probability that n pairs give a one-sided p ≤ level if the mean lies `beyond` past the margin."""
    if n < 2:
        return 0.0
    from scipy.special import nctdtr, stdtrit

    critical, shift = -float(stdtrit(n - 1, level)), beyond * math.sqrt(n) / sd
    below = float(nctdtr(n - 1, shift, critical))
    if math.isnan(below):  # scipy's fast function fails at some shifts above 37
        from scipy.stats import nct

        return float(nct.sf(critical, n - 1, shift))
    return 1 - below


def seeds_to_decide(beyond: float, sd: float, level: float) -> int | None:
    """The smallest number of seeds with power ≥ POWER; None if it is more than MOST.

    Without spread the exact sign-flip test decides, as soon as 2⁻ⁿ ≤ level.

    Args:
        beyond: how far the mean difference lies past the margin, ≥ 0.
        sd:     standard deviation of the differences.
    """
    if beyond <= 0:
        return None
    if sd == 0:
        return math.ceil(-math.log2(level))
    low, high = 2, MOST
    if power(high, beyond, sd, level) < POWER:
        return None
    while low < high:  # the power rises with n
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle, beyond, sd, level) >= POWER else (middle + 1, high)
    return low


def detectable(n: int, sd: float, level: float) -> float | None:
    """The smallest true difference that n pairs find with power POWER; None for n < 2."""
    if n < 2:
        return None
    from scipy.special import nctdtrinc, stdtrit

    critical = -float(stdtrit(n - 1, level))
    return float(nctdtrinc(n - 1, 1 - POWER, critical)) * sd / math.sqrt(n)
