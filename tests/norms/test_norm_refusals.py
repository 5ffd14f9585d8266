"""Refusals: each message says what must hold, what was given and what to do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from normbench import norms
from normbench.errors import InputError

DIVISORS = "to a divisor of 6 (1, 2, 3, 6), or leave it out"

ARGUMENTS = [
    ("bn", {"eps": 0}, "bn: eps must be a finite number > 0; got 0"),
    ("gn", {"eps": -1e-5}, "gn: eps must be a finite number > 0; got -1e-05"),
    ("in", {"eps": float("nan")}, "in: eps must be a finite number > 0; got nan"),
    ("rms", {"eps": None}, "rms: eps must be a finite number > 0; got None"),
    ("ln_c", {"eps": "small"}, "ln_c: eps must be a finite number > 0; got 'small'"),
    ("ln_chw", {"affine": "gamma"}, "ln_chw: affine must be true, false, weight or bias; got 'gamma'"),
    ("affine", {"affine": None}, "affine: affine must be true, false, weight or bias; got None"),
    ("bn", {"momentum": 1.5}, "bn: momentum must lie in [0, 1]; got '1.5'"),
    ("bn", {"momentum": True}, "bn: momentum must be a number in [0, 1]"),
    ("bn", {"momentum": "keras2:0.9"}, "unknown momentum convention 'keras2'; nearest: keras"),
    ("bn", {"track": "no"}, "bn: track must be true or false; got 'no'"),
    ("bn", {"batch": 0}, "bn: batch must be a whole number ≥ 1; got 0"),
    ("ghost", {"ghost_size": 2.5}, "ghost: ghost_size must be a whole number ≥ 1; got 2.5"),
    ("ghost", {"ghost_size": 4, "batch": 6}, "batch=6. Set ghost_size to a divisor of batch"),
    ("gn", {"num_groups": 4}, f"got num_groups=4 for 6 channels. Set num_groups {DIVISORS}"),
    ("gn", {"group_size": 16}, f"got group_size=16 for 6 channels. Set group_size {DIVISORS}"),
    ("gn", {"num_groups": 0}, "gn: num_groups must be a whole number ≥ 1; got 0"),
    ("gn", {"num_groups": 2, "group_size": 3}, "not both; got num_groups=2 and group_size=3"),
    ("lrn", {"size": 0}, "lrn: size must be a whole number ≥ 1; got 0"),
    ("lrn", {"alpha": -1.0}, "lrn: alpha must be a finite number ≥ 0; got -1.0"),
    ("lrn", {"beta": "steep"}, "lrn: beta must be a finite number ≥ 0; got 'steep'"),
    ("lrn", {"k": 0}, "lrn: k must be > 0, or a silent neighbourhood divides by 0; got 0"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "args", "message"), ARGUMENTS, ids=lambda value: str(value)[:40])
def test_an_argument_out_of_range_is_named(key, args, message):
    with pytest.raises(InputError) as error:
        norms.build(key, 6, **args)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("sizes", "name"),
    [((0, 1), "channels"), ((6, 0), "lanes"), ((6.0, 1), "channels"), ((True, 1), "channels")],
)
def test_channels_and_lanes_are_whole_numbers(key, sizes, name):
    with pytest.raises(norms.NormError, match=f"{key}: {name} must be a whole number ≥ 1"):
        norms.build(key, *sizes)


def test_an_unknown_norm_offers_the_nearest():
    with pytest.raises(InputError, match="unknown norm 'ln'; nearest: "):
        norms.build("ln", 6)
    with pytest.raises(InputError, match="unknown norm 'groupnorm'"):
        norms.entry("groupnorm")


def test_an_unknown_argument_offers_the_nearest(key):
    with pytest.raises(InputError, match=f"unknown argument of norm {key} 'epsilon'"):
        norms.build(key, 6, epsilon=1e-5)
    with pytest.raises(InputError, match="nearest: num_groups"):
        norms.build("gn", 6, groups=2)


#: A shape on which every statistic would average one value, and one next to it that is fine.
SINGLE = [
    ("bn", {}, (1, 6, 1, 1), (2, 6, 1, 1), "1 image per statistic on a map of 1 position"),
    ("bn", {"batch": 1}, (8, 6), (8, 6, 2), "1 image per statistic on a map of 1 position"),
    ("ghost", {"ghost_size": 1}, (8, 6, 1, 1), (8, 6, 2, 1), "a ghost of 1 image on a map of 1 position"),
    ("in", {}, (8, 6, 1, 1), (8, 6, 1, 2), "a map of 1 position"),
    ("in", {}, (8, 6), (8, 6, 2), "a map of 1 position"),
    ("gn", {"group_size": 1}, (8, 6, 1, 1), (8, 6, 2, 1), "a group of 1 channel on a map of 1 position"),
    ("ln_chw", {"channels": 1}, (8, 1), (8, 1, 2), "1 channel on a map of 1 position"),
    ("ln_c", {"channels": 1}, (8, 1, 4, 4), None, "1 channel gives 1"),
    ("rms", {"channels": 1}, (8, 1, 4, 4), None, "1 channel, of which only the sign is left"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "args", "refused", "accepted", "cause"), SINGLE)
@pytest.mark.parametrize("lanes", [1, 2])
def test_a_statistic_of_one_value_is_refused_with_cause_and_remedy(
    key, args, refused, accepted, cause, lanes
):
    layer = norms.build(key, **{"channels": 6, **args}, lanes=lanes)
    with pytest.raises(norms.NormError) as error:
        layer.check((refused[0], lanes * refused[1], *refused[2:]))
    assert f"{key}: a statistic must average at least 2 values, but {cause}" in str(error.value)
    assert "leave this layer out" in str(error.value)
    if accepted:
        layer.check((accepted[0], lanes * accepted[1], *accepted[2:]))


@pytest.mark.parametrize("key", ["gn", "ln_chw", "ln_c", "rms"])
def test_norms_over_channels_take_a_map_of_one_position(key):
    norms.build(key, 6).check((1, 6, 1, 1))
    norms.build(key, 6).check((1, 6))


@pytest.mark.parametrize("key", ["none", "affine", "lrn"])
def test_norms_without_a_centred_statistic_take_any_shape(key):
    norms.build(key, 1).check((1, 1, 1, 1))


@pytest.mark.parametrize(("key", "args"), [("bn", {"batch": 4}), ("ghost", {"ghost_size": 4})])
def test_a_batch_that_does_not_hold_whole_statistics_is_refused(key, args):
    with pytest.raises(
        norms.NormError, match=r"multiple of 4 images, the size of one statistic; got 6\. Drop"
    ):
        norms.build(key, 6, **args).check((6, 6, 2, 2))


def evaluated_by_batch(key: str, **args):
    layer = norms.build(key, 6, **args).eval()
    layer.source = "batch"
    return layer


@pytest.mark.parametrize(
    ("key", "args"), [("online", {}), ("bcn_est", {}), ("frozen", {"after": 0}), ("bn", {}), ("mabn", {})]
)
@pytest.mark.parametrize("shape", [(1, 6), (1, 6, 1, 1)])
def test_evaluation_by_the_batch_needs_several_values_whatever_training_needs(key, args, shape):
    layer = evaluated_by_batch(key, **args)
    with pytest.raises(norms.NormError, match=f"{key}: a statistic must average at least 2 values"):
        layer(torch.randn(shape))
    assert layer(torch.randn(4, *shape[1:])).isfinite().all()


@pytest.mark.parametrize("key", ["online", "bcn_est"])
def test_a_shape_that_training_accepted_is_checked_again_in_evaluation(key):
    layer = evaluated_by_batch(key).train()
    layer(torch.randn(1, 6, 1, 1))
    with pytest.raises(norms.NormError, match="a statistic must average"):
        layer.eval()(torch.randn(1, 6, 1, 1))


#: Norms that compute the same in evaluation as in training: arguments, and one value per statistic.
ALWAYS = [
    ("in", {}, (4, 6, 1, 1)), ("gn", {"group_size": 1}, (4, 6, 1)), ("ln_chw", {"channels": 1}, (4, 1)),
    ("ln_c", {"channels": 1}, (4, 1, 3, 3)), ("rms", {"channels": 1}, (4, 1, 3, 3)),
    ("l2", {"channels": 1}, (4, 1, 3, 3)), ("frn", {"learn_eps": False}, (4, 6, 1, 1)),
    ("evonorm_s0", {"group_size": 1}, (4, 6, 1, 1)), ("lcn", {"channels": 1}, (4, 1, 1, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("key", "args", "shape"), ALWAYS)
@pytest.mark.parametrize("training", [True, False])
def test_one_value_per_statistic_is_refused_in_training_and_in_evaluation(key, args, shape, training):
    layer = norms.build(key, **{"channels": 6, **args}).train(training)
    with pytest.raises(norms.NormError, match=f"{key}: a statistic must average at least 2 values"):
        layer(torch.randn(shape))


def test_a_norm_says_that_evaluation_is_the_same_as_the_registry_does(key):
    assert norms.entry(key).layer.same_in_evaluation is not norms.entry(key).eval_differs


def test_numbers_of_numpy_are_refused_in_one_line_or_taken():
    assert norms.build("bn", 6, eps=np.float64(0.25), momentum=np.float32(0.25)).eps == 0.25
    with pytest.raises(norms.NormError, match="bn: eps must be a finite number > 0"):
        norms.build("bn", 6, eps=np.array([]))
