"""How numbers are printed: the decimals follow from the largest value, at every border."""

from __future__ import annotations

import pytest

from normbench.report.metrics import number_format

BORDERS = [
    ([9.9e-5, 5e-5], ".8f"), ([1e-4, 5e-5], ".6f"), ([9.9e-3], ".6f"), ([1e-2, 5e-3], ".4f"),
    ([0.99, 0.25], ".4f"), ([1.0, 0.25], ".3f"), ([9.99], ".3f"), ([10.0, 0.5], ".2f"), ([99.9], ".2f"),
    ([100.0, 0.5], ".1f"), ([999.9], ".1f"), ([1000.0, 0.5], ".0f"), ([9.9e6, 0.5], ".0f"),
    ([1e7, 0.5], ".4g"), ([-1e7, 0.5], ".4g"), ([0.0], ".4f"), ([0.0, 0.0], ".4f"), ([], ".4f"),
]  # fmt: skip
WHOLE = [
    ([3.0, 7.0], [5.0], ".0f"), ([3.0, 4.0], [3.5], ".1f"), ([1e7], [1e7], ".0f"),
    ([1e15 - 1], [1e15 - 1], ".0f"), ([1e15], [1e15], ".4g"), ([3.0, 0.5], [5.0], ".3f"),
    ([0.0, 3.0], [1.5], ".1f"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "spec"), BORDERS)
def test_decimals_follow_from_the_largest_value(values, spec):
    assert number_format("test_loss", values, values) == (1.0, spec, "")


@pytest.mark.parametrize(("values", "means", "spec"), WHOLE)
def test_counts_have_no_decimals_and_their_means_one(values, means, spec):
    assert number_format("steps_to_0.1", values, means) == (1.0, spec, "")


@pytest.mark.parametrize("metric", ["test_error", "train_error", "test_error@precise"])
def test_errors_are_fractions_printed_in_percent_with_two_decimals(metric):
    form = number_format(metric, [0.5, 1.0], [0.75])
    assert form == (100.0, ".2f", "%")
    assert (form(0.12345), form(0.0), form(-0.00001)) == ("12.35", "0.00", "0.00")
    assert (form.as_printed(0.123), form.as_printed(0.12), form.as_printed(0.2)) == ("12.3", "12.0", "20.0")
