"""`model.bias=auto` removes exactly the biases that have no effect: those before a norm that removes them."""

from __future__ import annotations

import pytest
import torch

from normbench import models
from normbench.data.shape import Shape
from normbench.groups import PREACTIVATION
from normbench.models.layers import Conv2d, Linear
from normbench.models.resnet import BASIC

RGB16, GREY32 = Shape(3, 16, 10, 1, 1), Shape(1, 32, 10, 1, 1)
SITES = ("all", "first", "last", "stage1.*", "[final,stage3.*]", "[stage*.*.norm1,final]", "*.norm2")


def layers(network):
    """Convolutions and hidden linear layers in the order of the forward pass's definition."""
    return [m for m in network.modules() if isinstance(m, Conv2d | Linear)][:-1]


def build(make_spec, image, *words):
    network = models.build([make_spec(*words)], image).double()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for p in network.parameters():  # away from 0, so that no parameter hides the effect of another
            p += 0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return network


def assert_auto_keeps_what_has_an_effect(make_spec, image, *words):
    full = build(make_spec, image, *words, "model.bias=true")
    biases = [layer.bias for layer in layers(full)]
    x = torch.randn(4, image.channels, image.size, image.size, dtype=torch.float64)
    logits = full(x)
    slopes = torch.linspace(-1, 1, logits.numel(), dtype=x.dtype).view(logits.shape)
    gradients = torch.autograd.grad((logits * slopes).sum(), biases)
    largest = max(g.abs().max() for g in gradients)
    if largest < 1e-9:
        largest = torch.tensor(1.0)  # no bias has an effect
    have_an_effect = [bool(g.abs().max() > 1e-9 * largest) for g in gradients]
    auto = [layer.bias is not None for layer in layers(build(make_spec, image, *words, "model.bias=auto"))]
    assert auto == have_an_effect


def resnets():
    for placement in BASIC:
        for branch in ("plain", "skipinit"):
            nets = [("resnet20", "pad"), ("resnet20", "conv"), ("resnet50", "conv")]
            for model, shortcut in nets if branch == "plain" else nets[1:2]:
                yield placement, branch, model, shortcut, "before_split"
                if placement in PREACTIVATION and branch == "plain":
                    yield placement, branch, model, shortcut, "in_branch"


@pytest.mark.parametrize("norm", ["bn", "in"])
@pytest.mark.parametrize(("placement", "branch", "model", "shortcut", "stem"), list(resnets()))
def test_a_residual_net_has_no_bias_without_effect(make_spec, placement, branch, model, shortcut, stem, norm):
    if norm == "in" and ((model, branch) != ("resnet20", "plain") or placement == "conv_act_norm"):
        pytest.skip("instance norm before the pooling leaves nothing; elsewhere one net will do")
    words = [f"model={model}", "model.width=4", f"placement={placement}", f"model.shortcut={shortcut}"]
    words += [f"model.branch={branch}", f"model.stem_activation={stem}", f"norm={norm}", "norm.affine=false"]
    assert_auto_keeps_what_has_an_effect(make_spec, RGB16, *words, "batch=4")


@pytest.mark.parametrize("sites", SITES)
@pytest.mark.parametrize("placement", ["norm_act_conv", "after_add"])
def test_a_bias_stays_if_one_of_its_readers_has_no_norm(make_spec, placement, sites):
    if placement == "after_add" and "final" in sites:
        pytest.skip("only norm_act_conv has the site final")
    words = ["model=resnet20", "model.width=4", f"placement={placement}", f"placement.sites={sites}"]
    for shortcut in ("pad", "conv"):
        assert_auto_keeps_what_has_an_effect(
            make_spec, RGB16, *words, f"model.shortcut={shortcut}", "norm=bn", "norm.affine=false", "batch=4"
        )


@pytest.mark.parametrize("stem", ["before_split", "in_branch"])
def test_max_pooling_after_the_stem_changes_nothing(make_spec, stem):
    words = ["model=resnet18", "model.width=4", "model.stem=imagenet", "placement=norm_act_conv", "batch=4"]
    words += [f"model.stem_activation={stem}", "norm=bn", "norm.affine=false"]
    assert_auto_keeps_what_has_an_effect(make_spec, Shape(3, 64, 10, 1, 1), *words)


@pytest.mark.parametrize("placement", ["conv_norm_act", "conv_act_norm"])
@pytest.mark.parametrize("model", ["lenet5", "vgg11", "mlp"])
def test_a_plain_net_has_no_bias_without_effect(make_spec, model, placement):
    words = [f"model={model}", f"placement={placement}", "norm=bn", "norm.affine=false", "batch=4"]
    words += ["model.width=4"] if model == "vgg11" else []
    assert_auto_keeps_what_has_an_effect(make_spec, GREY32, *words)
