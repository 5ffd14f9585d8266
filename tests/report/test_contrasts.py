"""Contrasts and power against scipy's own tests."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats

from normbench.report.contrasts import against, paired
from normbench.report.power import MOST, POWER, detectable, power, seeds_to_decide

DIFFERENCES = [0.31, 0.42, 0.28, 0.55, 0.40]


@pytest.mark.parametrize("margin", [0.0, 0.25, 0.39, 0.6])
def test_p_values_and_interval_are_those_of_scipys_t_test(margin) -> None:
    found = against(DIFFERENCES, margin)
    greater, less = (
        scipy.stats.ttest_1samp(DIFFERENCES, margin, alternative=way) for way in ("greater", "less")
    )
    assert found.p_above == pytest.approx(greater.pvalue)
    assert found.p_below == pytest.approx(less.pvalue)
    assert found.interval == pytest.approx(scipy.stats.ttest_1samp(DIFFERENCES, 0).confidence_interval(0.95))


def test_the_interval_lies_above_the_margin_exactly_if_p_is_below_one_fortieth() -> None:
    low = against(DIFFERENCES, 0.0).interval[0]
    assert against(DIFFERENCES, low - 1e-9).p_above < 0.025 < against(DIFFERENCES, low + 1e-9).p_above


def test_two_one_sided_tests_are_those_of_scipy() -> None:
    """TOST: the larger of the p-values of "below +margin" and "above −margin"."""
    small = [0.004, -0.002, 0.001, 0.003, -0.001]
    margin = 0.01
    tost = max(against(small, -margin).p_above, against([-d for d in small], -margin).p_above)
    upper = scipy.stats.ttest_1samp(small, margin, alternative="less").pvalue
    lower = scipy.stats.ttest_1samp(small, -margin, alternative="greater").pvalue
    assert tost == pytest.approx(max(upper, lower))


def test_the_permutation_test_is_the_exact_sign_flip_test() -> None:
    shifted = np.array(DIFFERENCES) - 0.35
    signs = np.array(np.meshgrid(*[[-1, 1]] * 5)).reshape(5, -1).T
    means = (signs * np.abs(shifted)).mean(axis=1)
    found = against(DIFFERENCES, 0.35, "permutation")
    assert found.p_above == pytest.approx((means >= shifted.mean() - 1e-12).mean())
    assert found.p_below == pytest.approx((means <= shifted.mean() + 1e-12).mean())
    assert found.smallest == 1 / 32


def test_the_permutation_test_has_the_bca_interval_of_scipy() -> None:
    rng = np.random.default_rng(0)
    expected = scipy.stats.bootstrap((np.array(DIFFERENCES),), np.mean, method="BCa", rng=rng)
    found = against(DIFFERENCES, 0.0, "permutation").interval
    assert found == pytest.approx(tuple(expected.confidence_interval))


@pytest.mark.parametrize(("margin", "above", "below"), [(0.1, 1 / 32, 1.0), (0.3, 1.0, 1 / 32), (0.2, 1, 1)])
def test_equal_differences_have_the_p_of_a_sign_flip(margin, above, below) -> None:
    found = against([0.2] * 5, margin)
    assert (found.p_above, found.p_below, found.sd, found.test) == (above, below, 0.0, "sign")


def test_infinite_differences_are_compared_by_the_sign_test() -> None:
    found = against([math.inf, math.inf, 0.5, 0.4, -0.1], 0.2)
    assert found.p_above == pytest.approx(scipy.stats.binomtest(4, 5, 0.5, alternative="greater").pvalue)
    assert found.p_below == pytest.approx(scipy.stats.binomtest(4, 5, 0.5, alternative="less").pvalue)
    assert (found.mean, found.interval) == (None, None)


def test_pairs_are_those_of_common_seeds_and_two_infinite_values_are_no_pair() -> None:
    assert paired({0: 2.0, 1: 5.0, 3: math.inf}, {1: 1.0, 2: 0.0, 3: math.inf}) == [4.0]


@pytest.mark.parametrize("differences", [[], [1.0]])
def test_fewer_than_two_pairs_decide_nothing(differences) -> None:
    found = against(differences, 0.0)
    assert (found.p_above, found.p_below, found.interval) == (1.0, 1.0, None)


@pytest.mark.parametrize(("n", "beyond", "sd"), [(5, 1.0, 1.0), (12, 0.4, 0.9), (3, 5.0, 1.0)])
def test_power_is_that_of_the_noncentral_t_distribution(n, beyond, sd) -> None:
    critical = scipy.stats.t.ppf(0.975, n - 1)
    expected = scipy.stats.nct.sf(critical, n - 1, beyond * math.sqrt(n) / sd)
    assert power(n, beyond, sd, 0.025) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("beyond", [0.3, 0.9, 1.75, 4.0, 20.0])
def test_power_rises_with_the_seeds_up_to_the_most(beyond) -> None:
    powers = [power(n, beyond, 1.0, 0.0083) for n in range(2, MOST + 1)]
    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(powers))
    needed = seeds_to_decide(beyond, 1.0, 0.0083)
    assert needed == 2 + next(place for place, each in enumerate(powers) if each >= POWER)


def test_power_is_how_often_simulated_seeds_decide() -> None:
    draws = np.random.default_rng(0).normal(1.0, 1.2, (4000, 8))
    decided = scipy.stats.ttest_1samp(draws, 0.2, axis=1, alternative="greater").pvalue <= 0.025
    assert power(8, 0.8, 1.2, 0.025) == pytest.approx(decided.mean(), abs=0.03)


@pytest.mark.parametrize(("beyond", "sd"), [(1.0, 1.0), (0.2, 1.0), (10.0, 1.0)])
def test_the_seeds_that_decide_are_the_fewest_with_the_power(beyond, sd) -> None:
    n = seeds_to_decide(beyond, sd, 0.0125)
    assert power(n, beyond, sd, 0.0125) >= POWER
    assert n == 2 or power(n - 1, beyond, sd, 0.0125) < POWER


def test_no_number_of_seeds_is_promised_at_the_margin_or_for_a_tiny_effect() -> None:
    assert seeds_to_decide(0.0, 1.0, 0.025) is None
    assert seeds_to_decide(0.001, 1.0, 0.025) is None


def test_without_spread_the_sign_flip_test_says_how_many_seeds() -> None:
    assert seeds_to_decide(0.1, 0.0, 0.025) == 6
    assert 0.5**6 <= 0.025 < 0.5**5


@pytest.mark.parametrize("n", [2, 5, 30])
def test_the_detectable_difference_has_the_power(n) -> None:
    assert power(n, detectable(n, 0.7, 0.01), 0.7, 0.01) == pytest.approx(POWER, abs=1e-5)
    assert detectable(1, 0.7, 0.01) is None
