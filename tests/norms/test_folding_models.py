"""fold on networks of torchvision and timm, with random weights on small images."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.ops import misc

from normbench import norms

#: Network → image side, norms that can be folded, norms that cannot.
NETWORKS = {
    "resnet50": (32, 53, 0),
    "densenet121": (32, 59, 62),
    "googlenet": (48, 57, 2),
    "mobilenet_v2": (32, 52, 0),
    "inception_v3": (80, 94, 2),
    "vgg16_bn": (32, 13, 0),
}
#: Why norms are left alone: the layers between make it inexact, or the auxiliary classifiers are not called.
LEFT = {
    "densenet121": r"(cat|features\S+ \(\w+\)) feeds it( and others)?, and .*(\(ReLU\)|relu) reads it",
    "googlenet": "the forward pass does not call it",
    "inception_v3": "the forward pass does not call it",
}


def seasoned(net: nn.Module) -> nn.Module:
    """The network in evaluation, with γ, β and statistics as after training."""
    for module in net.modules():
        if hasattr(module, "running_var"):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net.eval()


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    settings = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return seasoned(getattr(models, name)(weights=None, num_classes=4, **settings))


def difference(one: nn.Module, other: nn.Module, x: torch.Tensor) -> float:
    with torch.no_grad():
        a, b = one(x), other(x)
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n in ("vgg16_bn", "inception_v3"))) for n in NETWORKS],
)
def test_a_folded_network_gives_what_the_network_gives(name):
    side, foldable, others = NETWORKS[name]
    net = network(name)
    x = torch.randn(2, 3, side, side)
    report = []
    assert difference(norms.fold(net, report=report), net, x) <= 1e-5
    folded = [change for change in report if change.new is not None]
    assert (len(folded), len(report) - len(folded)) == (foldable, others)
    assert all(re.fullmatch(LEFT[name], change.note) for change in report if change.new is None)
    net.double()
    assert difference(norms.fold(net), net, x.double()) <= 1e-12


def test_only_the_norms_that_follow_a_convolution_are_folded_in_a_densenet():
    report = []
    norms.fold(network("densenet121"), report=report)
    folded = {change.name.rpartition(".")[2]: change.new for change in report if change.new is not None}
    assert set(folded) == {"norm0", "norm2"}  # a convolution feeds them alone; a ReLU follows the others


def test_a_network_after_conversion_is_folded_as_before_it():
    net = network("mobilenet_v2")
    x = torch.randn(2, 3, 32, 32)
    for key in ("bn", "l1bn"):
        other = norms.convert(copy.deepcopy(net).train(), key)
        other(x)
        report = []
        assert difference(norms.fold(other.eval(), report=report), other, x) <= 1e-5
        assert all(change.new is not None for change in report)


def test_frozen_batch_norms_of_a_detector_are_folded():
    torch.manual_seed(0)
    net = seasoned(models.resnet18(weights=None, norm_layer=misc.FrozenBatchNorm2d)).double()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    report = []
    assert difference(norms.fold(net, report=report), net, x) <= 1e-12
    assert [change.old for change in report if change.new is not None] == ["FrozenBatchNorm2d"] * 20


@pytest.mark.parametrize(
    ("name", "foldable", "others"),
    [("regnetx_002", 44, 0), ("efficientnet_b0", 49, 0), ("resnetv2_50", 33, 16)],
)
def test_activations_inside_timms_norms_stay(name, foldable, others):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    net = seasoned(timm.create_model(name, num_classes=4)).double()
    report = []
    folded = norms.fold(net, report=report)
    assert difference(folded, net, torch.randn(2, 3, 64, 64, dtype=torch.float64)) <= 1e-12
    assert sum(change.new is not None for change in report) == foldable
    assert sum(change.new is None for change in report) == others
