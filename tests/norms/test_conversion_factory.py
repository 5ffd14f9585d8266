"""norms.layer: a method as the norm_layer of other libraries."""

from __future__ import annotations

import copy
import pickle
from functools import partial

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.ops import MLP, Conv2dNormActivation, FeaturePyramidNetwork

from normbench import norms
from normbench.errors import InputError
from normbench.norms.surgery.last_axis import LastAxis

BUILDERS = {
    "resnet18": lambda layer: models.resnet18(weights=None, norm_layer=layer, zero_init_residual=True),
    "wide_resnet50_2": lambda layer: models.resnet50(weights=None, norm_layer=layer, width_per_group=128),
    "mobilenet_v2": lambda layer: models.mobilenet_v2(weights=None, norm_layer=layer),
    "mobilenet_v3_small": lambda layer: models.mobilenet_v3_small(weights=None, norm_layer=layer),
    "efficientnet_b0": lambda layer: models.efficientnet_b0(weights=None, norm_layer=layer),
    "convnext_tiny": lambda layer: models.convnext_tiny(weights=None, norm_layer=layer),
    "block": lambda layer: Conv2dNormActivation(3, 16, norm_layer=layer),
    "fpn": lambda layer: FeaturePyramidNetwork([16], 16, norm_layer=layer),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_networks_of_torchvision_are_built_with_it(name):
    with torch.device("meta"):
        net = BUILDERS[name](norms.layer("gn", group_size=8))
        theirs = BUILDERS[name](nn.BatchNorm2d)
    layers = [layer for layer in net.modules() if isinstance(layer, norms.Norm)]
    count = sum(isinstance(layer, nn.BatchNorm2d) for layer in theirs.modules())
    assert len(layers) == count > 0
    assert all(layer.key == "gn" and layer.channels // layer.num_groups == 8 for layer in layers)


def test_a_network_built_with_it_trains_and_its_initial_weights_are_those_of_torch():
    nets = []
    for layer in (nn.BatchNorm2d, norms.layer("bn")):
        torch.manual_seed(0)
        nets.append(models.resnet18(weights=None, num_classes=4, norm_layer=layer, zero_init_residual=True))
    x = torch.randn(2, 3, 32, 32)
    for net in nets:
        net(x).square().sum().backward()
    for (path, old), (other, new) in zip(*(net.named_parameters() for net in nets), strict=True):
        assert path == other and torch.equal(old, new) and torch.equal(old.grad, new.grad)


def test_transformers_take_it_with_channels_as_the_last_axis():
    torch.manual_seed(0)
    net = models.swin_t(weights=None, num_classes=4, norm_layer=norms.layer("rms", axis=-1, eps=1e-6))
    assert sum(isinstance(layer, LastAxis) for layer in net.modules()) == 29
    assert net(torch.randn(1, 3, 32, 32)).shape == (1, 4)
    mlp = MLP(6, [8], norm_layer=norms.layer("ln_c", axis=-1))
    assert mlp(torch.randn(2, 3, 6)).shape == (2, 3, 8)


def test_it_can_be_pickled_copied_compared_and_bound():
    layer = norms.layer("gn", group_size=16)
    for other in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer), norms.layer("gn", group_size=16)):
        assert other == layer and hash(other) == hash(layer) and other(32).num_groups == 2
    assert norms.layer("gn", group_size=8) != layer != norms.layer("gn", axis=-1, group_size=16)
    assert repr(layer) == "norms.layer('gn', group_size=16)"
    assert partial(layer, eps=1e-3)(32).eps == 1e-3
    assert layer.__name__ == "norms.layer('gn')"


def test_arguments_of_torchs_constructors_are_understood():
    bn = norms.layer("bn", eps=1e-3)
    assert bn(8, momentum=0.01).momenta[0].canonical == 0.01
    assert bn(8, eps=1e-4).eps == 1e-4 and bn(8).eps == 1e-3
    assert bn(8, momentum=None).momenta[0].canonical == "cumulative"
    assert bn(8, track_running_stats=False).tracked is False
    assert bn(8, affine=False).weight is None
    assert bn(8, device="meta", dtype=torch.float64).weight.is_meta
    assert bn(8, dtype=torch.float64).weight.dtype == torch.float64
    ln = norms.layer("ln_c")
    assert ln((8,), elementwise_affine=False).weight is None
    assert ln(8, bias=False).affine == "weight" and ln(8, bias=True).affine is True
    assert norms.layer("gn", group_size=4)(8, num_groups=1).num_groups == 1


@pytest.mark.parametrize(
    ("key", "args", "message"),
    [
        ("gn", {"momentum": 0.01}, r"called with momentum=0.01, but norm gn has no momentum \(it has: .*eps"),
        ("gn", {"track_running_stats": True}, "norm gn has no track_running_stats"),
        ("none", {"eps": 1e-3}, "norm none has no eps"),
        ("none", {"bias": False}, "norm none has no bias"),
        ("bn", {"process_group": 3}, "norm bn has no process_group"),
        ("ln_c", {"bias": "yes"}, "bias must be true or false; got 'yes'"),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused(key, args, message):
    with pytest.raises(norms.NormError, match=message):
        norms.layer(key)(8, **args)


def test_wrong_words_are_refused_at_once():
    with pytest.raises(InputError, match="unknown norm 'gm'; nearest: gn"):
        norms.layer("gm")
    with pytest.raises(InputError, match="unknown argument of norm gn 'group_sise'; nearest: group_size"):
        norms.layer("gn", group_sise=16)
    with pytest.raises(InputError, match="channel axis of a norm layer must be 1 or -1; got 2"):
        norms.layer("gn", axis=2)
    with pytest.raises(
        norms.NormError, match=r"norms.layer\('bn'\) takes channels and named arguments; got 1 more"
    ):
        norms.layer("bn")(8, 1e-5)
    with pytest.raises(norms.NormError, match="group_size must divide the channels"):
        models.mobilenet_v2(weights=None, norm_layer=norms.layer("gn", group_size=16))


def test_a_backbone_takes_frozen_norms():
    net = models.resnet18(weights=None, norm_layer=norms.layer("frozen", after=0.0))
    assert net.bn1.frozen
