"""norms.insert: norms in models that have none."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torchvision import models

from normbench import norms
from normbench.errors import InputError
from normbench.norms.surgery.last_axis import LastAxis

from .conftest import fitting


def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 12, 3, bias=False), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4),
    )  # fmt: skip


def images(side=12, count=4):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def report_of(model, key, **args):
    report = []
    norms.insert(model, key, report=report, **args)
    return [str(change) for change in report]


def test_every_method_can_be_inserted_and_trained(key):
    model = norms.insert(small(), key, after=nn.Conv2d, **fitting(key))
    layers = [layer for layer in model.modules() if isinstance(layer, norms.Norm)]
    assert [(layer.key, layer.channels, layer.site) for layer in layers] == [(key, 6, "0"), (key, 12, "3")]
    for _ in range(2):
        model(images()).square().mean().backward()
    assert model.eval()(images()).shape == (4, 4)


@pytest.mark.parametrize(("name", "side", "count"), [("alexnet", 64, 5), ("squeezenet1_1", 48, 26)])
@pytest.mark.parametrize("key", ["bn", "gn", "frn"])
def test_networks_without_norms_get_one_after_every_convolution(name, side, count, key):
    torch.manual_seed(0)
    net = getattr(models, name)(weights=None, num_classes=4)
    before = copy.deepcopy(net)
    report = []
    norms.insert(net, key, after=nn.Conv2d, report=report, **fitting(key))
    assert sum(change.new == f"Conv2d + {key}" for change in report) == count
    convs = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert all((conv.bias is None) == (key == "bn") for conv in convs)
    weights = [module.weight for module in before.modules() if isinstance(module, nn.Conv2d)]
    assert all(torch.equal(conv.weight, weight) for conv, weight in zip(convs, weights, strict=True))
    net(images(side, 2)).square().sum().backward()
    assert all(conv.weight.grad.isfinite().all() for conv in convs)


def test_the_output_is_that_of_the_same_network_written_by_hand():
    plain = small().double()
    inserted = norms.insert(copy.deepcopy(plain), "bn", after=["0", nn.Linear])
    x = images().double()
    first, last = nn.BatchNorm2d(6).double(), nn.BatchNorm1d(4).double()
    for mode in (True, False):
        inserted.train(mode), first.train(mode), last.train(mode)
        bias = [plain[0].bias.view(-1, 1, 1), plain[7].bias]
        y = first(plain[0](x) - bias[0])
        y = last(plain[1:](y) - bias[1])
        torch.testing.assert_close(inserted(x), y, rtol=1e-12, atol=1e-12)


def test_dropping_the_bias_changes_nothing_in_training():
    x, plain = images().double(), small().double()
    with_bias = norms.insert(copy.deepcopy(plain), "bn", after="0")
    with_bias[0].layer.bias = copy.deepcopy(plain[0].bias)
    without = norms.insert(copy.deepcopy(plain), "bn", after="0")
    assert without[0].layer.bias is None
    torch.testing.assert_close(without(x), with_bias(x), rtol=1e-10, atol=1e-10)


def test_the_report_explains_channels_bias_and_activation():
    assert report_of(small(), "bn", after=nn.Conv2d) == [
        "0: Conv2d → Conv2d + bn; its bias is dropped, since bn removes it", "3: Conv2d → Conv2d + bn",
    ]  # fmt: skip
    assert report_of(small(), "gn", after=["0", "7"], group_size=2) == [
        "0: Conv2d → Conv2d + gn; its bias stays", "7: Linear → Linear + gn; its bias stays",
    ]  # fmt: skip
    model = small()
    assert (
        report_of(model, "frn", after="[037]")[0]
        == "0: Conv2d → Conv2d + frn; its bias stays; replaces 1, too"
    )
    assert type(model[1]) is nn.Identity and model[0].norm.tau is not None and model[7].norm.norm.tau is None


def test_activations_and_pooling_take_the_channels_of_the_layer_that_feeds_them():
    model = small()
    assert report_of(model, "bn", after=[nn.ReLU, "2"]) == [
        "1: ReLU → ReLU + bn", "2: MaxPool2d → MaxPool2d + bn", "4: ReLU → ReLU + bn",
    ]  # fmt: skip
    assert [model[i].norm.channels for i in (1, 2, 4)] == [6, 6, 12]
    assert report_of(small(), "bn", after=["0", "6"])[1] == (
        "6: Flatten left alone: how many channels its output has is not known"
    )


def test_linear_layers_normalize_the_last_axis():
    model = norms.insert(nn.Sequential(nn.Linear(6, 8), nn.ReLU()), "ln_c", after=nn.Linear)
    assert isinstance(model[0].norm, LastAxis)
    x = torch.randn(2, 5, 6)
    torch.testing.assert_close(model[0](x), nn.functional.layer_norm(model[0].layer(x), (8,)))


class Attentive(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.out = nn.MultiheadAttention(8, 2), nn.Linear(8, 8)
        self.tied, self.norm, self.late = nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x):
        x, _ = self.attention(x, x, x)
        x = self.norm(self.tied(self.out(x)))
        return nn.functional.linear(x, self.late.weight)


def test_layers_whose_weight_is_read_directly_or_that_have_a_norm_are_left_alone():
    model, x = Attentive(), torch.randn(3, 2, 8)
    lines = report_of(model, "gn", after=[nn.Linear, "norm"], group_size=2)
    assert lines[:2] == [
        "attention.out_proj: NonDynamicallyQuantizableLinear left alone: MultiheadAttention may read its "
        "weight directly",
        "out: Linear → Linear + gn; its bias stays",
    ]
    assert "tied: Linear left alone: norm (LayerNorm) normalizes its output already" in lines
    assert "norm: LayerNorm left alone: it is a norm itself" in lines
    assert model(x).shape == x.shape


def test_a_weight_that_the_forward_pass_reads_directly_is_left_alone():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.code, self.other = nn.Linear(6, 4), nn.Linear(4, 4)

        def forward(self, x):
            return nn.functional.linear(self.other(self.code(x)), self.code.weight.T)

    model = Tied()
    assert report_of(model, "gn", after=nn.Linear, group_size=2)[0] == (
        "code: Linear left alone: the model reads its weight directly"
    )
    assert model(torch.randn(2, 6)).shape == (2, 6)


def test_a_layer_used_twice_stays_one_layer_and_pruned_layers_keep_their_pruning():
    conv = prune.l1_unstructured(nn.Conv2d(3, 3, 3, padding=1), "weight", 5)
    model = norms.insert(nn.ModuleList([nn.Sequential(conv), nn.Sequential(conv)]), "in", after=nn.Conv2d)
    assert model[0][0] is model[1][0] and model[0][0].layer is conv and prune.is_pruned(conv)
    assert model[0](images()).shape == (4, 3, 12, 12)


def test_inserted_norms_can_be_converted_and_folded():
    model = norms.insert(small().double(), "bn", after=nn.Conv2d)
    x = images().double()
    model(x)
    report = []
    folded = norms.fold(model.eval(), report=report)
    assert [str(change) for change in report] == [
        "0.norm: BatchNorm → folded into 0.layer", "3.norm: BatchNorm → folded into 3.layer",
    ]  # fmt: skip
    torch.testing.assert_close(folded(x), model(x), rtol=1e-12, atol=1e-12)
    assert norms.convert(model, "gn", group_size=2)[0].norm.num_groups == 3


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"after": "fetures.*"}, "unknown layer 'fetures.*'.*after takes types, paths or patterns"),
        ({"after": nn.Conv3d}, "insert needs a Conv3d in the model; got a Sequential"),
        (
            {"after": nn.Flatten},
            "insert needs layers inside of the model that can take a norm; got 6: Flatten",
        ),
        ({"after": nn.Conv2d, "group_size": 4}, "layer 0: gn: group_size must divide the channels"),
        ({"after": nn.Conv2d, "groups": 4}, "unknown argument of norm gn 'groups'"),
        ({"after": nn.Sequential}, "insert needs"),
    ],
)
def test_a_failing_insertion_changes_nothing(args, message):
    model, report = small(), []
    with pytest.raises(InputError, match=message):
        norms.insert(model, "gn", report=report, **args)
    assert report == [] and str(model) == str(small())
    assert model[0].bias is not None


def test_an_argument_called_after_is_given_by_a_factory():
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3))
    norms.insert(model, norms.layer("frozen", after=0.25), after="2")
    norms.convert(model, norms.layer("frozen", after=0.75, momentum=0.3), sites="1", momentum=0.2)
    assert (model[2].norm.after, model[1].after, model[1].momentum) == (0.25, 0.75, 0.2)
    with pytest.raises(InputError, match="Leave axis out"):
        norms.convert(model, norms.layer("gn", axis=-1))
