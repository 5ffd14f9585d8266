"""Inputs that no norm can work on are refused as torch does; empty ones pass and leave no trace."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from normbench import norms
from normbench.errors import InputError

#: For every norm with a statistic of its own: an input of one value per statistic, with the arguments for it.
ONE_VALUE = {
    "bn": [
        ({}, (1, 6, 1, 1)),
        ({"batch": 1}, (4, 6)),
        ({"track": False}, (1, 6)),
        ({"center": False}, (1, 6)),
        ({"scale": False}, (1, 6)),
    ],
    "sync": [({}, (1, 6, 1, 1))],
    "ghost": [({"ghost_size": 1}, (4, 6, 1, 1))],
    "brn": [({}, (1, 6))],
    "noisy_bn": [({}, (1, 6))],
    "frozen": [({}, (1, 6))],
    "bin": [({}, (4, 6)), ({}, (4, 6, 1, 1))],
    "ebn": [({}, (1, 6)), ({"batch": 1}, (4, 6, 1))],
    "bcn": [({}, (1, 6, 1)), ({"group_size": 1}, (4, 6))],
    "bcn_est": [({"group_size": 1}, (4, 6))],
    "bnet": [({"kernel": 1}, (1, 6))],
    "cbn": [({"compensate": False}, (1, 6))],
    "dbn": [({}, (1, 6)), ({"group_size": 1}, (1, 6)), ({"group_size": 6}, (2, 6, 5))],
    "iternorm": [({}, (1, 6)), ({"group_size": 1}, (1, 6, 1))],
    "l1bn": [({}, (1, 6)), ({"batch": 1}, (4, 6, 1))],
    "mode": [({}, (1, 6))],
    "mixture": [({}, (1, 6)), ({}, (5, 6))],
    "evonorm_b0": [({}, (1, 6))],
    "evonorm_s0": [({"group_size": 1}, (4, 6))],
    "sn": [({}, (1, 6))],
    "mabn": [({}, (1, 6))],
    "power": [({}, (1, 6)), ({"channels": 1}, (4, 1, 3))],
    "streaming": [({}, (1, 6))],
    "in": [({}, (4, 6)), ({}, (4, 6, 1, 1))],
    "gn": [({"group_size": 1}, (4, 6))],
    "ln_chw": [({"channels": 1}, (4, 1))],
    "ln_c": [({"channels": 1}, (4, 1, 3))],
    "rms": [({"channels": 1}, (4, 1, 3))],
    "l2": [({"channels": 1}, (4, 1, 3))],
    "frn": [({"learn_eps": False}, (4, 6))],
    "lcn": [({"per_channel": True}, (4, 6))],
}
#: Norms of which one value per statistic makes sense: they have none, or it averages over time.
ANY_SHAPE = {"none", "affine", "dyt", "derf", "lrn", "online"}


def state_of(layer) -> dict[str, torch.Tensor]:
    return copy.deepcopy(layer.state_dict())


def unchanged(layer, before) -> bool:
    return all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())


def test_every_norm_says_what_one_value_per_statistic_means_to_it(key):
    assert (key in ONE_VALUE) != (key in ANY_SHAPE)


@pytest.mark.parametrize("lanes", [1, 2])
def test_training_on_one_value_per_statistic_is_refused_by_the_layer_itself(key, make, draw, lanes):
    for args, shape in ONE_VALUE.get(key, []):
        layer = make(key, lanes, **args)
        before = state_of(layer)
        with pytest.raises(norms.NormError, match=rf"^{key}: "):
            layer(draw(shape, lanes=lanes))
        assert unchanged(layer, before)


def test_evaluation_by_running_statistics_takes_one_value(key, make, draw):
    if norms.entry(key).eval_differs and key != "bnet":
        assert make(key).eval()(draw((1, 6))).isfinite().all()


def test_frozen_statistics_take_one_value_in_training(make, draw):
    assert make("frozen", after=0)(draw((1, 6))).isfinite().all()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.uint8, torch.int64, torch.bool], ids=str)
def test_complex_and_integer_inputs_are_refused(key, make, images, dtype, training):
    if key == "none":
        return  # like torch's Identity, it hands over anything
    layer = make(key).train(training)
    with pytest.raises(norms.NormError, match=f"{key}: the input must hold real floating-point numbers"):
        layer(torch.ones(images).to(dtype))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(6,), (4, 5, 3, 3), (4, 12, 3, 3), (4, 1, 6)])
def test_an_input_of_other_channels_is_refused(key, make, draw, shape, training):
    if key == "none":
        return
    with pytest.raises(norms.NormError, match=rf"{key}: the input must have the shape \(N, 6, \*spatial\)"):
        make(key).train(training)(torch.ones(shape))


@pytest.mark.parametrize("shape", [(0, 6), (0, 6, 4, 3), (4, 6, 0, 3), (0, 6, 0)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("lanes", [1, 2])
def test_an_input_without_values_comes_back_empty_and_leaves_no_trace(
    key, make, draw, images, shape, training, lanes
):
    layer = make(key, lanes)
    layer(draw(images, lanes=lanes))
    before = state_of(layer)
    x = draw(shape, lanes=lanes).requires_grad_()
    y = layer.train(training)(x)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert all(p.grad is None or p.grad.eq(0).all() for p in layer.parameters())
    assert len({p.grad is None for p in layer.parameters()} | {False}) == 1
    assert unchanged(layer, before)


@pytest.mark.parametrize("shape", [(0, 6, 4, 3), (4, 6, 0, 3)])
def test_an_empty_input_gives_what_torchs_layer_gives(shape):
    ours, torchs = norms.build("bn", 6), nn.BatchNorm2d(6)
    for layer in (ours, torchs):
        layer(torch.zeros(shape, requires_grad=True)).sum().backward()
    for name, p in torchs.named_parameters():
        assert torch.equal(ours.get_parameter(name).grad, p.grad)
    assert torch.equal(ours.running_var, torchs.running_var)


NUMBERS = (True, False)
FLAGS = (1, 0, "true", None)


def wrong_types() -> Iterator[tuple[str, str, object]]:
    """Every argument of every norm, with booleans for numbers and numbers for booleans."""
    for key, entry in norms.catalogue().items():
        for name, default in entry.arguments.items():
            if isinstance(default, bool) and name != "affine":
                yield from ((key, name, value) for value in FLAGS)
            elif name == "affine" or (key, name) == ("frn", "learn_eps"):
                yield from ((key, name, value) for value in (1, 0, 1.0))
            else:
                yield from ((key, name, value) for value in NUMBERS)


@pytest.mark.parametrize(("key", "name", "value"), list(wrong_types()))
def test_a_boolean_is_no_number_and_a_number_no_boolean(key, name, value):
    given = [value] if name == "seeds" else value
    with pytest.raises(InputError, match=f"{name}|momentum"):
        norms.build(key, 6, **{name: given})


@pytest.mark.parametrize("name", ["eps", "momentum"])
def test_a_boolean_among_the_values_of_lanes_is_refused(name):
    with pytest.raises(InputError, match=f"{name} must"):
        norms.build("bn", 6, 2, **{name: [0.1, True]})
