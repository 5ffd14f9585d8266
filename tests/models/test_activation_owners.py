"""Norms that replace the activation after them: no activation is applied twice and none is lost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from normbench import models, norms
from normbench.data.shape import Shape
from normbench.errors import InputError
from normbench.groups import PREACTIVATION
from normbench.models.network import ARCHITECTURES, Network
from normbench.models.resnet import Residual
from normbench.norms.registry import REGISTRY

OWNERS = sorted(key for key, entry in norms.catalogue().items() if entry.activates)
FAMILIES = {
    "mlp": ["model=mlp", "model.hidden=[12,9]"],
    "lenet5": ["model=lenet5"],
    "vgg11": ["model=vgg11", "model.width=4"],
    "resnet20": ["model=resnet20", "model.width=4"],
    "resnet20 with projections": ["model=resnet20", "model.width=4", "model.shortcut=conv"],
    "resnet50": ["model=resnet50", "model.width=4"],
}
GREY = Shape(1, 32, 10, 1, 1)


def placements():
    for family, words in FAMILIES.items():
        for placement in ARCHITECTURES[words[0].removeprefix("model=")].placements:
            yield pytest.param([*words, f"placement={placement}", "batch=4"], id=f"{family}-{placement}")
            if placement in PREACTIVATION:
                in_branch = [*words, f"placement={placement}", "batch=4", "model.stem_activation=in_branch"]
                yield pytest.param(in_branch, id=f"{family}-{placement}-in_branch")


def build(make_spec, *words):
    return models.build([make_spec(*words)], GREY).double()


def owning(layer) -> bool:
    """Whether a layer was built to replace its activation."""
    return getattr(layer, "tau", getattr(layer, "v", None)) is not None


def activation_readers(network) -> tuple[set[str], set[str], int]:
    """The sites whose output an activation reads, those whose output only an activation reads, and the number
    of activations in a forward pass.
    """
    outputs, inputs, hooks = {}, [], []
    for site, layer in network.norms().items():
        hooks.append(layer.register_forward_hook(lambda m, i, y, site=site: outputs.update({site: y})))
    layers = (m for m in network.modules() if not isinstance(m, nn.Sequential | Residual | Network))
    hooks += [m.register_forward_hook(lambda m, i, y: inputs.append((m, i[0]))) for m in layers]
    with torch.no_grad():
        network(torch.randn(4, 1, 32, 32, dtype=torch.float64))
    for hook in hooks:
        hook.remove()
    readers = {site: [isinstance(m, nn.ReLU) for m, x in inputs if x is y] for site, y in outputs.items()}
    by_activation = {site for site, kinds in readers.items() if any(kinds)}
    alone = {site for site in by_activation if all(readers[site])}
    return by_activation, alone, sum(isinstance(m, nn.ReLU) for m, _ in inputs)


@pytest.mark.parametrize("words", list(placements()))
def test_a_layer_replaces_its_activation_exactly_if_only_that_would_read_it(make_spec, words):
    """With model.stem_activation=in_branch the first shortcut reads the stem of act_only_preact, too, so that
    the stem keeps its activation.
    """
    _, wanted, activations = activation_readers(build(make_spec, *words, "norm=bn"))
    network = build(make_spec, *words, "norm=frn")
    owned = {site for site, layer in network.norms().items() if owning(layer)}
    assert owned == wanted
    read, _, left = activation_readers(network)
    assert not read & owned, "an activation reads a norm that replaces it"
    assert left == activations - len(owned)


@pytest.mark.parametrize("words", list(placements()))
def test_a_threshold_at_zero_trains_as_the_relu_that_it_replaces(make_spec, words, monkeypatch):
    x = torch.randn(4, 1, 32, 32, dtype=torch.float64)
    owners = build(make_spec, *words, "norm=frn")
    monkeypatch.setitem(REGISTRY, "frn", replace(REGISTRY["frn"], activates=False))
    plain = build(make_spec, *words, "norm=frn")
    assert not any(map(owning, plain.norms().values()))
    y, wanted = owners(x), plain(x)
    torch.testing.assert_close(y, wanted, rtol=1e-9, atol=1e-9)
    mine, others = ([p for p in network.parameters() if p.dim() > 1] for network in (owners, plain))
    got = torch.autograd.grad(y.square().sum(), mine)
    for a, b in zip(got, torch.autograd.grad(wanted.square().sum(), others), strict=True):
        assert (a - b).norm() <= 1e-7 * b.norm()


@pytest.mark.parametrize("key", OWNERS)
def test_sites_without_the_norm_keep_their_activation(make_spec, key):
    network = build(make_spec, "model=lenet5", f"norm={key}", "batch=4", "placement.sites=[conv2,fc1]")
    assert list(network.norms()) == ["conv2", "fc1"]
    assert all(map(owning, network.norms().values()))
    assert sum(isinstance(module, nn.ReLU) for module in network.modules()) == 2


@pytest.mark.parametrize("key", OWNERS)
def test_an_activation_other_than_the_papers_is_refused(make_spec, key):
    for activation in ("tanh", "sigmoid"):
        spec = make_spec("model=lenet5", f"norm={key}", f"model.activation={activation}")
        with pytest.raises(
            InputError,
            match=rf"norm={key} replaces the activation.*got model\.activation={activation}\. "
            r"Use model\.activation=relu",
        ):
            models.check(spec, GREY)


@pytest.mark.parametrize("key", OWNERS)
def test_after_the_activation_any_activation_is_allowed(make_spec, key):
    words = ["model=lenet5", f"norm={key}", "batch=4", "placement=conv_act_norm", "model.activation=tanh"]
    models.check(make_spec(*words), GREY)
    network = build(make_spec, *words)
    assert not any(map(owning, network.norms().values()))
    assert sum(isinstance(module, nn.Tanh) for module in network.modules()) == 4


def test_zero_last_makes_a_block_with_frn_the_activation_of_its_input(make_spec):
    network = build(make_spec, "model=resnet20", "norm=frn", "batch=4", "model.zero_last=true")
    x = torch.randn(4, 64, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(network.body[-4](x), torch.relu(x))


@pytest.mark.parametrize("key", OWNERS)
def test_every_such_norm_replaces_the_same_activations(make_spec, key):
    network = build(make_spec, *FAMILIES["resnet20"], "placement=conv_norm_act", "batch=4", f"norm={key}")
    owned = {site for site, layer in network.norms().items() if owning(layer)}
    assert owned == {site for site in network.sites if site == "stem" or site.endswith("norm1")}
    assert activation_readers(network)[0] == set(), "an addition reads the norm before it"
    for model in ("mlp", "lenet5", "vgg11"):
        models.check(make_spec(f"model={model}", f"norm={key}", "batch=4"), GREY)
