"""Initial weights: the distribution of every `model.init`, and torch's own numbers for a lone layer."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from normbench import models, rng
from normbench.data.shape import Shape
from normbench.models.activations import ACTIVATIONS, GAINS
from normbench.models.layers import Conv2d, Linear

GREY = Shape(1, 32, 10, 1, 1)
INITS = ("he", "xavier", "normal:0.02", "torch", "orthogonal")


def layers(make_spec, *words, seeds=(0,)):
    """The layers of LeNet-5 without norms, so that every layer has a bias: name → layer."""
    specs = [make_spec("model=lenet5", "norm=none", *words, f"seed={seed}") for seed in seeds]
    network = models.build(specs, GREY)
    found = [m for m in network.modules() if isinstance(m, Conv2d | Linear)]
    return dict(zip(("conv1", "conv2", "fc1", "fc2", "head"), found, strict=True))


def plain(name):
    """The layer in plain torch, without its initial values."""
    kinds = {
        "conv1": (nn.Conv2d, 1, 6, 5), "conv2": (nn.Conv2d, 6, 16, 5), "fc1": (nn.Linear, 400, 120),
        "fc2": (nn.Linear, 120, 84), "head": (nn.Linear, 84, 10),
    }  # fmt: skip
    kind, *sizes = kinds[name]
    return kind(*sizes)


@pytest.mark.parametrize("name", ["conv1", "conv2", "fc1", "fc2", "head"])
def test_torch_gives_every_layer_the_numbers_of_torchs_own_layer(make_spec, name):
    layer = layers(make_spec, "model.init=torch", seeds=(3,))[name]
    with torch.random.fork_rng():
        torch.manual_seed(rng.generator(3, f"init/{name}").initial_seed())
        theirs = plain(name)
    assert torch.equal(layer.weight.view(theirs.weight.shape), theirs.weight)
    assert torch.equal(layer.bias.flatten(), theirs.bias)
    assert layer.bias.any()


@pytest.mark.parametrize(
    ("init", "fill"),
    [
        ("he:relu", lambda w, gain: nn.init.kaiming_normal_(w)),
        ("xavier", lambda w, gain: nn.init.xavier_uniform_(w)),
        ("normal:0.02", lambda w, gain: nn.init.normal_(w, std=0.02)),
        ("orthogonal", lambda w, gain: nn.init.orthogonal_(w, gain)),
    ],
)
@pytest.mark.parametrize("name", ["conv1", "conv2", "fc1", "fc2", "head"])
def test_weights_are_those_of_torchs_own_function_and_biases_are_0(make_spec, init, fill, name):
    layer = layers(make_spec, f"model.init={init}", "model.activation=tanh", seeds=(3,))[name]
    theirs = plain(name)
    with torch.random.fork_rng():
        torch.manual_seed(rng.generator(3, f"init/{name}").initial_seed())
        fill(theirs.weight, 1.0 if name == "head" else 5 / 3)
    torch.testing.assert_close(layer.weight.view(theirs.weight.shape), theirs.weight, rtol=1e-6, atol=1e-7)
    assert not layer.bias.any()


@pytest.mark.parametrize("init", INITS)
def test_weights_have_the_deviation_of_their_rule(make_spec, init):
    """All of fc1, 120 × 400 weights: the deviation is known to 1 %."""
    weight = layers(make_spec, f"model.init={init}")["fc1"].weight
    wanted = {
        "he": math.sqrt(2 / 400), "xavier": math.sqrt(2 / 520), "normal:0.02": 0.02,
        "torch": 1 / math.sqrt(3 * 400), "orthogonal": math.sqrt(2) / math.sqrt(400),
    }[init]  # fmt: skip
    assert weight.std().item() == pytest.approx(wanted, rel=0.015)
    assert abs(weight.mean().item()) < 5 * wanted / weight.numel() ** 0.5
    bounds = {"xavier": math.sqrt(6 / 520), "torch": 400**-0.5}
    if init in bounds:
        assert 0.999 * bounds[init] < weight.abs().max().item() <= bounds[init]


def test_orthogonal_rows_have_the_length_of_the_gain(make_spec):
    found = layers(make_spec, "model.init=orthogonal", "model.activation=tanh")
    rows = found["fc1"].weight[0]
    torch.testing.assert_close(rows @ rows.T, (5 / 3) ** 2 * torch.eye(120), rtol=1e-4, atol=1e-5)
    head = found["head"].weight[0]
    torch.testing.assert_close(head @ head.T, torch.eye(10), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("init", INITS)
def test_lanes_start_as_lone_runs(make_spec, init):
    stack = layers(make_spec, f"model.init={init}", seeds=(4, 9, 2))
    for k, seed in enumerate((4, 9, 2)):
        for name, lone in layers(make_spec, f"model.init={init}", seeds=(seed,)).items():
            for own, alone in zip(stack[name].parameters(), lone.parameters(), strict=True):
                assert torch.equal(own.unflatten(0, (3, -1))[k].flatten(), alone.flatten())


def test_a_deviation_has_one_canonical_form_and_each_rule_its_own_signature(make_spec):
    assert make_spec("model.init='normal:1e-2'") == make_spec("model.init='normal:.010'")
    assert make_spec("model.init='normal:0.01'").model.init == "normal:0.01"
    inits = (*INITS, "normal:0.01", "lsuv")
    assert len({make_spec(f"model.init={init}").signature for init in inits}) == len(inits)
    assert make_spec("model.init=he").signature == make_spec().signature


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_gains_are_torchs_or_keep_the_mean_square_of_the_activations(name):
    """elu, silu and gelu have no gain in torch: gain² E[f(z)²] = 1, summed over a fine grid."""
    torchs = {"relu": "relu", "leaky_relu": "leaky_relu", "sigmoid": "sigmoid", "tanh": "tanh"}
    if name in torchs:
        assert GAINS[name] == pytest.approx(nn.init.calculate_gain(torchs[name]), rel=1e-12)
    if name in ("sigmoid", "tanh"):
        return
    z = torch.linspace(-12, 12, 400_001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    square = torch.trapezoid(ACTIVATIONS[name]()(z).square() * density, z).item()
    assert GAINS[name] ** 2 * square == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_every_activation_is_torchs_with_torchs_defaults(make_spec, activation):
    oracle = {
        "relu": torch.relu, "leaky_relu": nn.functional.leaky_relu, "elu": nn.functional.elu,
        "silu": nn.functional.silu, "gelu": nn.functional.gelu, "sigmoid": torch.sigmoid, "tanh": torch.tanh,
    }[activation]  # fmt: skip
    words = ["model=mlp", "model.hidden=[12,9]", "norm=none", f"model.activation={activation}"]
    network = models.build([make_spec(*words)], Shape(1, 8, 10, 1, 1)).double()
    x = torch.randn(5, 1, 8, 8, dtype=torch.float64)
    w1, b1, w2, b2, w3, b3 = (p[0] for p in network.parameters())
    y = oracle(oracle(x.flatten(1) @ w1.T + b1) @ w2.T + b2) @ w3.T + b3
    torch.testing.assert_close(network(x)[:, 0], y)
