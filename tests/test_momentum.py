"""Norm momentum: all spellings mean the weight of the new batch; schedules; the effect over a run."""

from __future__ import annotations

import doctest
import math

import pytest

from normbench import cli, momentum
from normbench.errors import InputError
from normbench.momentum import Momentum, parse_momentum

SCHEDULES = [
    "linear:0.1:0.001", "cosine:0.1:0.001", "exponential:0.1:0.001", "step:0.5:0.5:0.1",
    "step:0.5:0.5:0.25:0.1", "linear:0:1", "cosine:1:0",
]  # fmt: skip
SPELLINGS = [0, 1, 0.1, "cumulative", "debiased:0.1", "debiased:1", "debiased:1e-18", *SCHEDULES]


def weight(spelled, t: int, steps: int) -> float:
    """w_t by the formulas in the docstring of the module."""
    m = parse_momentum(spelled).at((t - 1) / steps)
    if spelled == "cumulative":
        return 1 / t
    return 1 / sum((1 - m) ** i for i in range(t)) if str(spelled).startswith("debiased") else m


def test_examples_of_the_docstrings_hold():
    assert doctest.testmod(momentum).failed == 0


@pytest.mark.parametrize(
    "spelled",
    [
        *SPELLINGS, "0.1", "1e-3", "-0", "1/3", "keras:0.997", "torch:0.3", "caffe:0.999", "caffe:0",
        "caffe:1", "paddle:0.9", "step:0.5:0.5:20/180:0.001",
    ],
)  # fmt: skip
def test_the_canonical_spelling_parses_to_itself(spelled):
    parsed = parse_momentum(spelled)
    assert parse_momentum(parsed.canonical) == parsed
    assert parse_momentum(parsed.canonical).canonical == parsed.canonical
    assert "-" not in str(parsed.canonical).replace("e-", "")


def test_conventions_for_the_weight_of_the_old_value_are_inverted_without_rounding():
    assert parse_momentum("keras:0.997") == Momentum("ema", 0.003)
    for library in ("keras", "tf", "flax", "haiku", "chainer", "paddle", "mxnet", "onnx", "caffe2"):
        assert parse_momentum(f"{library}:0.9") == Momentum("ema", 0.1)


@pytest.mark.parametrize("fraction", ["0.999", "0.9", "0.5", "0", "1"])
def test_caffes_sum_divided_by_its_scale_factor_is_the_debiased_momentum(fraction):
    total, scale, ours, f = 0.0, 0.0, 123.0, float(fraction)
    parsed = parse_momentum(f"caffe:{fraction}")
    for t, batch in enumerate([3.0, -1.0, 4.0, 1.0, -5.0, 9.0], 1):
        total, scale = f * total + batch, f * scale + 1
        ours += weight(parsed.canonical, t, 6) * (batch - ours)
        assert ours == pytest.approx(total / scale, rel=1e-12)


@pytest.mark.parametrize(
    ("spelled", "values"),
    [
        ("linear:0.4:0.2", {0: 0.4, 0.25: 0.35, 0.5: 0.3, 1: 0.2}),
        ("cosine:0.4:0.2", {0: 0.4, 0.5: 0.3, 2 / 3: 0.25, 1: 0.2}),
        ("exponential:0.4:0.1", {0: 0.4, 0.5: 0.2, 1: 0.1}),
        ("exponential:0.1:0.4", {0: 0.1, 0.5: 0.2, 1: 0.4}),
        ("step:0.4:0.5:0.25:0.06", {0: 0.4, 0.2499: 0.4, 0.25: 0.2, 0.5: 0.1, 0.75: 0.06, 1: 0.06}),
        ("0.3", {0: 0.3, 1: 0.3}),
    ],
)
def test_a_schedule_goes_from_its_first_value_to_its_last(spelled, values):
    for progress, value in values.items():
        assert parse_momentum(spelled).at(progress) == pytest.approx(value, rel=1e-14)


def test_votenets_schedule_is_a_step():
    """VoteNet's train.py: m(epoch) = max(0.5 · 0.5^⌊epoch / 20⌋, 0.001), 180 epochs, here of seven steps."""
    votenet = parse_momentum("step:0.5:0.5:20/180:0.001")
    for step in range(180 * 7):
        assert votenet.at(step / (180 * 7)) == max(0.5 * 0.5 ** (step // 7 // 20), 0.001)


@pytest.mark.parametrize("steps", [30, 70, 90, 1000])
def test_a_share_that_a_float_rounds_up_still_ends_on_its_step(steps):
    ten = parse_momentum("step:1:0.5:0.1")
    for step in range(steps):
        assert ten.at(step / steps) == 0.5 ** (10 * step // steps)


@pytest.mark.parametrize("spelled", SPELLINGS)
@pytest.mark.parametrize("steps", [1, 2, 10, 100])
def test_the_effect_equals_the_product_of_the_single_weights(spelled, steps):
    weights = [weight(spelled, t, steps) for t in range(1, steps + 1)]
    effect = parse_momentum(spelled).effect(steps)
    assert effect.weight == pytest.approx(weights[-1], rel=1e-12)
    assert effect.initial == pytest.approx(math.prod(1 - w for w in weights), rel=1e-9, abs=1e-15)
    whole = math.floor(effect.half_life) if effect.half_life <= steps else None
    if whole is not None:  # the last `whole` batches have at most half of the weight, one more at least half
        assert math.prod(1 - w for w in weights[steps - whole :]) >= 0.5 - 1e-9
        assert math.prod(1 - w for w in weights[max(0, steps - whole - 1) :]) <= 0.5 + 1e-9
    else:
        assert effect.initial > 0.5


def test_the_last_half_life_of_batches_has_half_of_the_weight():
    assert parse_momentum(0.01).effect(10**6).half_life == pytest.approx(math.log(0.5) / math.log(0.99))
    assert parse_momentum(0.01).effect(10).half_life == pytest.approx(68.97, abs=0.01)
    assert parse_momentum(0.0).effect(10).half_life == math.inf
    assert parse_momentum("cumulative").effect(300).half_life == 150
    assert parse_momentum("linear:0.001:0").effect(10).half_life == math.inf


@pytest.mark.parametrize("steps", [1000, 2_500_000])
def test_a_schedule_between_equal_values_has_the_effect_of_the_constant(steps):
    for kind in ("linear", "cosine", "exponential"):
        still, constant = (parse_momentum(spelled).effect(steps) for spelled in (f"{kind}:1e-3:1e-3", 1e-3))
        assert still == pytest.approx(constant, rel=1e-9)


def test_the_effect_of_frozen_statistics_counts_only_the_first_batches():
    assert parse_momentum(0.01).effect(200, 100) == parse_momentum(0.01).effect(100)
    frozen = parse_momentum("linear:0.2:0").effect(200, 100)
    assert frozen.weight == pytest.approx(parse_momentum("linear:0.2:0").at(99 / 200))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nan", "must be a number"), ("inf", "must be a number"), ("1/0", "must be a number"),
        ("1/2/3", "must be a number"), ("", "must be a number"), ("debiased", "must be a number"),
        ("linear:a:b", "must be a number"), ("1e999999999", "must be a number"),
        ("-0.1", "must lie in [0, 1]"),
        ("keras:1.5", "must lie in [0, 1]"), ("caffe:-1", "must lie in [0, 1]"),
        ("debiased:0", "must lie in [0, 1]"), ("debiased:1e-999999999", "must lie in [0, 1]"),
        ("debiased:0.1:0.2", "takes one number"), ("linear:0.1", "linear:A:B takes 2 numbers"),
        ("cosine:0.1:0.2:0.3", "cosine:A:B takes 2 numbers"), ("step:0.1:0.2", "takes 3 or 4 numbers"),
        ("linear:2:0", "takes numbers in [0, 1]"), ("step:0.5:2:0.1", "takes numbers in [0, 1]"),
        ("exponential:0.1:0", "takes numbers > 0"), ("step:0.5:0:0.1", "FACTOR > 0 and SHARE > 0"),
        ("step:0.5:0.5:0", "FACTOR > 0 and SHARE > 0"), ("lineal:0.1:0.2", "nearest: linear"),
    ],
)  # fmt: skip
def test_an_invalid_momentum_is_refused_in_one_line(given, message):
    with pytest.raises(InputError) as error:
        parse_momentum(given)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert given.split(":")[0] in str(error.value)


@pytest.mark.parametrize(
    "spelled", ["linear:0.1:0.001", "step:0.5:0.5:20/180:0.001", "caffe:0.999", "mxnet:0.9", "debiased:0.1"]
)
def test_every_spelling_can_be_given_on_the_command_line(spelled, make_spec):
    assert make_spec(f"norm.momentum={spelled}").norm.momentum == parse_momentum(spelled)


def test_a_schedule_out_of_range_is_bad_input(capsys):
    assert cli.run(["plan", "norm.momentum=linear:2:0"]) == 2
    assert "norm.momentum=linear:A:B takes numbers in [0, 1]; got 'linear:2:0'" in capsys.readouterr().err


def test_lasagnes_alpha_is_the_weight_of_the_new_batch() -> None:
    """BatchNormLayer: running_mean.default_update = (1 − alpha) · running_mean + alpha · input_mean."""
    assert parse_momentum("lasagne:0.1") == parse_momentum(0.1) == parse_momentum("torch:0.1")
    assert parse_momentum("lasagne:0.1") != parse_momentum("keras:0.1")
