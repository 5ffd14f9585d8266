"""Initial weights: variance by fan-in and activation, and pairs of runs that begin with the same numbers."""

from __future__ import annotations

import pytest
import torch

from normbench import models
from normbench.data.shape import Shape
from normbench.models.layers import Conv2d, Linear

GREY32, RGB32 = Shape(1, 32, 10, 1, 1), Shape(3, 32, 10, 1, 1)
#: Standard deviation times √fan-in: He et al. 2015 for ReLU, 1 for sigmoid, 5/3 for tanh.
GAINS = {"relu": 2**0.5, "sigmoid": 1.0, "tanh": 5 / 3}


def layers(spec, image):
    """Convolutions and linear layers by name."""
    network = models.build([spec], image)
    return {name: m for name, m in network.named_modules() if isinstance(m, Conv2d | Linear)}


@pytest.mark.parametrize("activation", GAINS)
@pytest.mark.parametrize(
    ("words", "image"),
    [
        (["model=mlp", "model.hidden=[300,200]"], GREY32),
        (["model=vgg11"], RGB32),
        (["model=resnet18", "model.shortcut=conv"], RGB32),
    ],
    ids=["mlp", "vgg11", "resnet18"],
)
def test_weights_have_the_variance_of_their_fan_in_and_activation(make_spec, words, image, activation):
    *hidden, head = layers(make_spec(*words, "norm=none", f"model.activation={activation}"), image).values()
    large = 0
    for layer in hidden:
        rows = layer.weight.detach().view(layer.weight.shape[-2] if isinstance(layer, Linear) else
                                          layer.weight.shape[0], -1)  # fmt: skip
        if rows.numel() > 10_000:
            large += 1
            deviation = rows.std().item() * rows.shape[1] ** 0.5
            assert deviation == pytest.approx(GAINS[activation], rel=0.03)
    assert large >= 2
    weight = head.weight.detach()
    assert weight.std().item() * weight.shape[-1] ** 0.5 == pytest.approx(3**-0.5, rel=0.1)
    assert all(not layer.bias.any() for layer in (*hidden, head))


CHANGES = [
    ["norm=gn"], ["norm=none"], ["norm=bn", "norm.momentum=0.5"], ["batch=8"], ["workers=4"], ["optim=adamw"],
    ["placement=conv_act_norm"], ["placement.sites=first"], ["weight=ws"], ["model.dropout=0.3"],
    ["model.bias=true"], ["schedule=constant"], ["optim.lr=1.0"],
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=" ".join)
def test_runs_of_one_seed_begin_with_the_same_weights_whatever_is_compared(make_spec, change):
    words = ["model=lenet5", "seed=3"]
    before, after = layers(make_spec(*words), GREY32), layers(make_spec(*words, *change), GREY32)
    ours, theirs = list(before.values()), list(after.values())
    assert len(ours) == len(theirs) == 5
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.weight, other.weight)


def test_layers_of_a_network_and_runs_of_other_seeds_begin_with_other_weights(make_spec):
    words = ["model=mlp", "model.hidden=[9,9,9]"]
    first, second = (layers(make_spec(*words, f"seed={seed}"), GREY32) for seed in (0, 1))
    square = [layer.weight.detach() for layer in first.values() if layer.weight.shape[-2:] == (9, 9)]
    assert len(square) == 2
    assert not torch.equal(*square)
    for one, other in zip(first.values(), second.values(), strict=True):
        assert not torch.equal(one.weight, other.weight)
