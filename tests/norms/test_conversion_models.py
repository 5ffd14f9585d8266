"""convert on networks of torchvision and timm, with random weights on small images."""

from __future__ import annotations

import copy
from collections import Counter

import pytest
import torch
from torch import nn
from torchvision import models

from normbench import norms

from .conftest import fitting

#: Network → image side, the method that its norms are, how many it has, the first and the last of them.
NETWORKS = {
    "resnet50": (32, "bn", 53, "bn1", "layer4.2.bn3"),
    "densenet121": (32, "bn", 121, "features.norm0", "features.norm5"),
    "googlenet": (48, "bn", 59, "conv1.bn", "aux2.conv.bn"),
    "mobilenet_v2": (32, "bn", 52, "features.0.1", "features.18.1"),
    "convnext_tiny": (32, "ln_c", 23, "features.0.1", "classifier.0"),
    "swin_t": (32, "ln_c", 29, "features.0.2", "norm"),
    "vit_b_16": (32, "ln_c", 25, "encoder.layers.encoder_layer_0.ln_1", "encoder.ln"),
    "vgg16_bn": (32, "bn", 13, "features.1", "features.41"),
    "inception_v3": (80, "bn", 94, "Conv2d_1a_3x3.bn", "Mixed_7c.branch_pool.bn"),
}
LARGE = ("vit_b_16", "vgg16_bn", "inception_v3")
SOME = [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE)) for name in NETWORKS]


def network(name: str) -> nn.Module:
    settings = {
        "googlenet": {"init_weights": False, "aux_logits": True},
        "inception_v3": {"init_weights": False, "aux_logits": False},
        "vit_b_16": {"image_size": 32},
    }
    torch.manual_seed(0)
    net = getattr(models, name)(weights=None, num_classes=4, **settings.get(name, {}))
    if name == "vit_b_16":  # its classifier starts with zeros, which pass no gradient
        nn.init.normal_(net.heads.head.weight)
    return net


def images(name: str, count: int = 2) -> torch.Tensor:
    side = NETWORKS[name][0]
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_norm_of_a_network_is_found(name):
    _, own, count, first, last = NETWORKS[name]
    for key in (own, "gn", "frn"):
        with torch.device("meta"):
            net = network(name)
        report = []
        norms.convert(net, key, report=report)
        assert [change.new for change in report] == [key] * count
        assert (report[0].name, report[-1].name) == (first, last)
        layers = {layer.site: layer for layer in net.modules() if isinstance(layer, norms.Norm)}
        assert list(layers) == [change.name for change in report]
        kinds = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm)
        assert not any(isinstance(module, kinds) for module in net.modules())


@pytest.mark.parametrize("name", SOME)
def test_the_networks_own_method_computes_the_same(name):
    before = network(name).eval()
    after = norms.convert(copy.deepcopy(before), NETWORKS[name][1])
    with torch.no_grad():
        assert torch.equal(after(images(name)), before(images(name)))


@pytest.mark.parametrize("name", [name for name in SOME if name.values[0] in ("resnet50", "vgg16_bn")])
def test_training_continues_unchanged(name):
    nets = [network(name)]
    nets.append(norms.convert(copy.deepcopy(nets[0]), "bn"))
    for net in nets:
        torch.manual_seed(1)  # for dropout
        net(images(name)).square().sum().backward()
    for (path, old), (other, new) in zip(*(net.named_parameters() for net in nets), strict=True):
        assert path == other and torch.equal(old.grad, new.grad)
    states = [net.state_dict() for net in nets]
    assert all(torch.equal(states[0][path], states[1][path]) for path in states[0])


@pytest.mark.parametrize("key", ["gn", "frn", "rms"])
@pytest.mark.parametrize("name", SOME)
def test_a_network_with_other_norms_trains(name, key):
    net = norms.convert(network(name), key, **fitting(key))
    out = net(images(name))
    out = out if isinstance(out, torch.Tensor) else out[0]
    out.square().mean().backward()
    named = [(path, layer) for path, layer in net.named_modules() if isinstance(layer, norms.Norm)]
    layers = [layer for path, layer in named if "aux" not in path]
    assert all(layer.weight.grad.isfinite().all() for layer in layers)
    assert sum(layer.weight.grad.abs().sum() for layer in layers) > 0
    assert net.eval()(images(name)).shape == (2, 4)


@pytest.mark.parametrize(
    ("name", "taken", "reasons"),
    [
        ("vgg16_bn", 13, {}),
        ("densenet121", 120, {"no single layer reads it alone": 1}),
        ("resnet50", 1, {"no single layer reads it alone": 52}),
        ("mobilenet_v2", 0, {"ReLU6 follows": 35}),
        ("googlenet", 0, {"no single layer reads it alone": 59}),
    ],
)
def test_a_relu_is_removed_if_it_alone_reads_a_norm(name, taken, reasons):
    with torch.device("meta"):
        net = network(name)
    relus = sum(type(module) is nn.ReLU for module in net.modules())
    report = []
    norms.convert(net, "frn", report=report)
    assert sum(change.note.startswith("replaces ") for change in report) == taken
    assert sum(type(module) is nn.ReLU for module in net.modules()) == relus - taken
    assert sum(layer.tau is not None for layer in net.modules() if isinstance(layer, norms.Norm)) == taken
    notes = Counter(change.note for change in report)
    for reason, count in reasons.items():
        assert notes[f"without its activation: {reason}"] == count


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet18", 20),
        ("resnetv2_50", 49),
        ("regnetx_002", 44),
        ("efficientnet_b0", 49),
        ("convnext_atto", 17),
    ],
)
def test_activations_inside_timms_norms_are_not_lost(name, count):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    before = timm.create_model(name, num_classes=4).eval()
    x = torch.randn(2, 3, 64, 64)
    report = []
    own = "ln_c" if name == "convnext_atto" else "bn"
    after = norms.convert(copy.deepcopy(before), own, report=report)
    assert [change.new for change in report] == [own] * count
    with torch.no_grad():
        torch.testing.assert_close(after(x), before(x), rtol=0, atol=1e-5)
    report = []
    norms.convert(before.train(), "frn", report=report)(x).square().mean().backward()
    inside = {
        "resnetv2_50": "replaces its ReLU, too",
        "efficientnet_b0": "without its activation: SiLU follows",
    }
    if name in inside:
        assert Counter(change.note for change in report)[inside[name]] > count // 3


def test_the_channel_axis_of_timms_norms_is_known():
    layers = pytest.importorskip("timm.layers")
    axes = {
        "LayerNorm": -1, "LayerNormAct": -1, "LayerNorm2d": 1, "LayerNormAct2d": 1, "GroupNormAct": 1,
        "GroupNorm1": 1,
    }  # fmt: skip
    for name, axis in axes.items():
        args = (12, 3) if name == "GroupNormAct" else (12,)
        old = getattr(layers, name)(*args)
        x = torch.randn(2, 12, 5, 5) if axis == 1 else torch.randn(2, 5, 5, 12)
        new = norms.convert(nn.Sequential(copy.deepcopy(old)), "gn" if "Group" in name else "ln_c")
        torch.testing.assert_close(new(x), old(x), rtol=0, atol=1e-6)
