from __future__ import annotations

import math

import pytest
import scipy.stats

from normbench.report.stats import compare, holm, summarize

A = {0: 0.021, 1: 0.034, 2: 0.027, 3: 0.040}
B = {0: 0.016, 1: 0.022, 2: 0.025, 3: 0.024}


def test_the_summary_agrees_with_hand_numbers() -> None:
    n, mean, sd, ci95 = summarize([2.0, 4.0, 9.0])
    assert (n, mean) == (3, 5.0)
    assert sd == pytest.approx(math.sqrt((9 + 1 + 16) / 2))
    half = 4.302653 * sd / math.sqrt(3)
    assert ci95 == pytest.approx((5 - half, 5 + half), abs=1e-5)


def test_the_interval_agrees_with_scipy() -> None:
    values = list(A.values())
    _, mean, sd, ci95 = summarize(values)
    assert mean is not None and sd is not None
    expected = scipy.stats.t.interval(0.95, len(values) - 1, loc=mean, scale=sd / math.sqrt(len(values)))
    assert ci95 == pytest.approx(expected)


def test_one_value_has_no_spread_and_none_has_no_mean() -> None:
    assert summarize([0.5]) == (1, 0.5, None, None)
    assert summarize([]) == (0, None, None, None)


def test_equal_values_have_an_interval_of_no_width() -> None:
    assert summarize([0.25, 0.25]) == (2, 0.25, 0.0, (0.25, 0.25))


def test_the_paired_test_agrees_with_scipy() -> None:
    paired = compare(A, B)
    assert paired is not None
    a, b = list(A.values()), list(B.values())
    assert paired.difference == pytest.approx(sum(a) / 4 - sum(b) / 4)
    assert paired.p_two_sided == pytest.approx(scipy.stats.ttest_rel(a, b).pvalue)
    assert paired.p_greater == pytest.approx(scipy.stats.ttest_rel(a, b, alternative="greater").pvalue)


def test_the_one_sided_test_looks_in_one_direction() -> None:
    forth, back = compare(A, B), compare(B, A)
    assert forth is not None and back is not None
    assert forth.p_two_sided == pytest.approx(back.p_two_sided)
    assert forth.p_greater + back.p_greater == pytest.approx(1.0)


def test_values_are_paired_by_seed_not_by_place() -> None:
    shuffled = {seed: B[seed] for seed in (3, 1, 0, 2)}
    assert compare(A, shuffled) == compare(A, B)


def test_only_shared_seeds_are_compared() -> None:
    paired = compare(A, {1: 0.022, 2: 0.025, 9: 0.5})
    assert paired is not None
    assert paired.n == 2
    assert paired.difference == pytest.approx(0.007)
    assert compare(A, {9: 0.5}) is None


def test_a_single_pair_proves_nothing() -> None:
    assert compare({0: 0.9}, {0: 0.1}) == (1, pytest.approx(0.8), None, None)


def test_equal_differences_get_the_sign_flip_p_not_zero() -> None:
    a, b = {s: 0.1 * s + 0.3 for s in range(3)}, {s: 0.1 * s + 0.2 for s in range(3)}
    assert compare(a, b) == (3, pytest.approx(0.1), 0.25, 0.125)
    assert compare(b, a) == (3, pytest.approx(-0.1), 0.25, 1.0)


def test_no_difference_is_no_evidence() -> None:
    assert compare(A, A) == (4, 0.0, 1.0, 1.0)
    assert compare({0: 0.0, 1: 0.0}, {0: 0.0, 1: 0.0}) == (2, 0.0, 1.0, 1.0)


def test_holm_agrees_with_an_example_by_hand() -> None:
    # ascending .005 .010 .030 .040, times 4 3 2 1: .020 .030 .060 .040; the last rises to .060
    assert holm([0.010, 0.040, 0.030, 0.005]) == pytest.approx([0.030, 0.060, 0.060, 0.020])


def test_holm_stays_below_one_and_keeps_a_single_p() -> None:
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.1 + 0.2, 1e-300, 1e300])
@pytest.mark.parametrize("n", [2, 3, 6, 7])
def test_equal_values_have_no_deviation_at_all(value, n) -> None:
    summary = summarize([value] * n)
    assert summary.sd == 0.0
    assert summary.ci95 == (summary.mean, summary.mean)


def test_huge_values_give_no_interval_instead_of_an_error() -> None:
    summary = summarize([1.7e308, 0.0])
    assert summary.mean == pytest.approx(0.85e308)
    assert summary.ci95 is None
