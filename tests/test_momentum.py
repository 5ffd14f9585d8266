"""Norm momentum: one direction, whatever it was written in."""

from __future__ import annotations

import doctest

import pytest

from normbench import momentum
from normbench.momentum import Momentum, parse_momentum


def test_examples_of_the_docstrings_hold():
    assert doctest.testmod(momentum).failed == 0


@pytest.mark.parametrize(
    "spelled", [0, 1, 0.1, "0.1", "1e-3", "keras:0.997", "debiased:0.1", "cumulative", "torch:0.3"]
)
def test_the_canonical_form_reads_back_as_itself(spelled):
    parsed = parse_momentum(spelled)
    assert parse_momentum(parsed.canonical) == parsed


def test_conventions_that_weigh_the_old_value_are_turned_round_without_rounding():
    assert parse_momentum("keras:0.997") == Momentum("ema", 0.003)
    assert parse_momentum("tf:0.9") == Momentum("ema", 0.1)
