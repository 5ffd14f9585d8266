"""Networks: parameter counts of the literature, sites, placements, biases, initial weights."""

from __future__ import annotations

import pytest
import torch

from normbench import models, norms
from normbench.data.shape import Shape
from normbench.errors import InputError
from normbench.groups import PREACTIVATION
from normbench.models.network import ARCHITECTURES
from normbench.models.resnet import BASIC, BOTTLENECK

GREY28, GREY32, RGB32 = Shape(1, 28, 10, 1, 1), Shape(1, 32, 10, 1, 1), Shape(3, 32, 10, 1, 1)
IMAGENET = Shape(3, 224, 1000, 1, 1)


def count(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("words", "image", "parameters"),
    [
        (["model=lenet5", "norm=none"], GREY32, 61_706),  # lecun1998 with full connections
        (["model=lenet300", "norm=none"], GREY28, 266_610),  # lecun1998
        (["model=resnet20", "norm=bn"], RGB32, 269_722),  # he2016: 0.27M; 269,722 with option A
        (["model=resnet32", "norm=bn"], RGB32, 464_154),  # 0.46M
        (["model=resnet44", "norm=bn"], RGB32, 658_586),  # 0.66M
        (["model=resnet56", "norm=bn"], RGB32, 853_018),  # 0.85M
        (["model=resnet110", "norm=bn"], RGB32, 1_727_962),  # 1.7M
        (["model=resnet18", "norm=bn", "model.stem=imagenet"], IMAGENET, 11_689_512),  # torchvision
        (["model=resnet34", "norm=bn", "model.stem=imagenet"], IMAGENET, 21_797_672),  # torchvision
        (["model=resnet50", "norm=bn", "model.stem=imagenet"], IMAGENET, 25_557_032),  # torchvision
        (["model=resnet101", "norm=bn", "model.stem=imagenet"], IMAGENET, 44_549_160),  # torchvision
        (["model=resnet152", "norm=bn", "model.stem=imagenet"], IMAGENET, 60_192_808),  # torchvision
        (["model=resnet18", "norm=bn"], RGB32, 11_173_962),  # the CIFAR variant in common use
        (["model=nin", "norm=none"], RGB32, 966_986),  # lin2014: 0.97M
        (["model=alexnet", "norm=none"], RGB32, 9_636_234),  # krizhevsky2012 scaled down; see the next test
        (["model=vgg11", "norm=bn", "model.bias=true"], RGB32, 9_231_114),  # the CIFAR variant in common use
        (["model=vgg13", "norm=bn", "model.bias=true"], RGB32, 9_416_010),
        (["model=vgg16", "norm=bn", "model.bias=true"], RGB32, 14_728_266),
        (["model=vgg19", "norm=bn", "model.bias=true"], RGB32, 20_040_522),
    ],
)
def test_parameter_counts_are_those_of_the_literature(make_spec, words, image, parameters):
    assert count(models.build([make_spec(*words)], image, dry=True)) == parameters


def test_alexnet_has_the_layers_of_the_paper_in_small(make_spec):
    network = models.build([make_spec("model=alexnet", "norm=none")], RGB32, dry=True)
    weights = [tuple(p.shape) for name, p in network.named_parameters() if name.endswith("weight")]
    assert weights == [
        (96, 3, 5, 5), (256, 96, 5, 5), (384, 256, 3, 3), (384, 384, 3, 3), (256, 384, 3, 3),
        (1, 1536, 256 * 3 * 3), (1, 1536, 1536), (1, 10, 1536),  # pooled 32 → 15 → 7 → 3
    ]  # fmt: skip
    assert network.sites == ("conv1", "conv2", "conv3", "conv4", "conv5", "fc1", "fc2")


@pytest.mark.parametrize("model", sorted(ARCHITECTURES))
def test_norm_none_has_no_norm_parameters_and_has_the_biases(make_spec, model):
    image = GREY28 if model == "lenet300" else Shape(1, 32, 10, 1, 1)
    bn = models.build([make_spec(f"model={model}", "norm=bn")], image, dry=True)
    none = models.build([make_spec(f"model={model}", "norm=none")], image, dry=True)
    channels = sum(layer.channels for layer in bn.norms().values())
    assert count(bn) - count(none) == 2 * channels - channels  # γ and β go, one bias per channel comes
    assert set(bn.norms()) == set(bn.sites)
    assert {type(layer) for layer in none.norms().values()} == {norms.entry("none").layer}


@pytest.mark.parametrize("model", sorted(ARCHITECTURES))
def test_every_placement_of_every_model_builds_and_runs(make_spec, model):
    image = GREY28 if model == "lenet300" else Shape(1, 32, 10, 1, 1)
    for placement in ARCHITECTURES[model].placements:
        models.check(make_spec(f"model={model}", f"placement={placement}", "norm=gn", "batch=2"), image)


@pytest.mark.parametrize("words", [*BASIC.values(), *BOTTLENECK.values()])
def test_every_unit_has_all_convolutions_all_norms_and_one_addition(words):
    parts = words.split()
    convs = sum(part.startswith("conv") for part in parts)
    assert [p for p in parts if p.startswith("conv")] == [f"conv{i + 1}" for i in range(convs)]
    assert [p for p in parts if p.startswith("norm")] == [f"norm{i + 1}" for i in range(convs)]
    assert parts.count("+") == 1
    assert parts.count("act") == convs


def test_a_plain_net_refuses_a_residual_placement(make_spec):
    with pytest.raises(
        InputError, match="lenet5 has no placement after_add; it has conv_norm_act, conv_act_norm"
    ):
        models.check(make_spec("model=lenet5", "placement=after_add"), GREY32)


def test_a_net_without_pooling_has_no_placement_after_it(make_spec):
    for model in ("mlp", "lenet300", "resnet20"):
        with pytest.raises(InputError, match=f"model {model} has no placement conv_act_pool_norm; it has"):
            models.architecture(make_spec(f"model={model}", "placement=conv_act_pool_norm"))


def test_placement_sites_selects_where_the_norm_stands(make_spec):
    def selected(sites):
        return list(models.build([make_spec("model=lenet5", f"placement.sites={sites}")], GREY32).norms())

    assert selected("all") == ["conv1", "conv2", "fc1", "fc2"]
    assert selected("first") == ["conv1"]
    assert selected("last") == ["fc2"]
    assert selected("conv*") == ["conv1", "conv2"]
    assert selected("[fc1,conv1]") == ["conv1", "fc1"]
    with pytest.raises(InputError, match=r"unknown site 'conv3'; nearest: conv"):
        selected("conv3")


def test_a_layer_has_a_bias_if_its_site_has_no_norm(make_spec):
    network = models.build([make_spec("model=lenet5", "norm=bn", "placement.sites=conv1")], GREY32)
    biased = {name.rsplit(".", 1)[0] for name, role in network.roles().items() if role == "bias"}
    assert len(biased) == 4  # conv2, fc1, fc2 and the head; not conv1


@pytest.mark.parametrize(
    ("words", "conv_biases"),
    [
        (["norm=bn"], 0), (["norm=gn"], 0), (["norm=gn", "norm.affine=weight"], 4), (["norm=bn",
        "norm.affine=false"], 0), (["norm=rms"], 4), (["norm=lrn"], 4), (["norm=bn",
        "placement=conv_act_norm"], 4), (["norm=bn", "model.bias=true"], 4), (["norm=none",
        "model.bias=false"], 0),
    ],
)  # fmt: skip
def test_a_layer_has_no_bias_only_if_the_norm_makes_it_redundant(make_spec, words, conv_biases):
    network = models.build([make_spec("model=lenet5", *words)], GREY32)
    assert sum(role == "bias" for role in network.roles().values()) == conv_biases + 1  # and the head's


def test_zero_last_makes_a_residual_block_the_activation_of_its_input(make_spec):
    network = models.build([make_spec("model=resnet20", "norm=bn", "batch=4", "model.zero_last=true")], RGB32)
    block = network.body[-4]
    x = torch.randn(4, 64, 8, 8)
    torch.testing.assert_close(block(x), torch.relu(x))


@pytest.mark.parametrize(
    "words", [["placement=after_add"], ["placement=norm_act_conv"], ["norm=lrn"], ["placement.sites=stem"]]
)
def test_zero_last_without_a_norm_to_zero_is_refused(make_spec, words):
    with pytest.raises(InputError, match=r"model\.zero_last needs a norm with γ"):
        models.build([make_spec("model=resnet20", "norm=bn", "model.zero_last=true", *words)], RGB32)


def test_hidden_weights_have_he_variance_and_depend_on_the_seed_only(make_spec):
    specs = [make_spec("model=vgg11", f"seed={seed}") for seed in (3, 7, 5)]
    stack = models.build(specs, RGB32)
    lone = models.build(specs[1:2], RGB32)
    for (name, wide), (_, narrow) in zip(stack.named_parameters(), lone.named_parameters(), strict=True):
        assert torch.equal(wide.unflatten(0, (3, -1))[1].reshape(-1), narrow.reshape(-1)), name
    conv = next(
        m for m in lone.modules() if getattr(m, "weight", None) is not None and m.weight.numel() > 2e6
    )
    assert conv.weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)


@pytest.mark.parametrize(
    ("words", "image", "message"),
    [
        (["model=lenet5", "norm=in"], GREY32, "site fc1: in: .*average at least 2 values"),
        (["model=lenet5", "norm=bn", "batch=1"], GREY32, "site fc1: bn: .*average at least 2 values"),
        (["model=lenet5", "norm=bn", "batch=1", "workers=4"], GREY32, "site fc1: bn"),
        (["model=lenet5", "norm=gn", "norm.args.num_groups=4"], GREY32, "site conv1: gn: .*6.*1, 2, 3, 6"),
        (["model=lenet5", "norm=ghost", "batch=24"], GREY32, "site conv1: ghost: .*16.*24"),
        (["model=lenet5", "norm=bn"], Shape(1, 8, 10, 1, 1), "lenet5 cannot take images of 8×8"),
    ],
)
def test_a_run_that_cannot_train_is_refused_and_the_site_named(make_spec, words, image, message):
    with pytest.raises(InputError, match=message):
        models.check(make_spec(*words), image)


def test_only_wn_maps_the_weight_of_the_head(make_spec):
    ws = models.build([make_spec("model=lenet5", "norm=gn", "weight=ws")], GREY32)
    wn = models.build([make_spec("model=lenet5", "norm=none", "weight=wn")], GREY32)
    mapped = [m.weight_norm for m in ws.modules() if hasattr(m, "weight_norm")]
    assert [type(m).__name__ for m in mapped].count(type(mapped[0]).__name__) == 4
    assert type(mapped[-1]) is not type(mapped[0])
    assert sum(name.endswith("weight_norm.gain") for name, _ in wn.named_parameters()) == 5


def test_every_parameter_has_one_role(make_spec):
    fixup, skipinit = (["norm=none", f"model.branch={branch}"] for branch in ("fixup", "skipinit"))
    for words in (
        ["norm=bn"],
        ["norm=rms", "weight=wn"],
        ["norm=affine", "weight=ws"],
        ["weight=scaled_ws"],
        fixup,
        skipinit,
    ):
        network = models.build([make_spec("model=resnet20", *words)], RGB32)
        assert set(network.roles()) == {name for name, _ in network.named_parameters()}
        assert set(network.roles().values()) <= {"weight", "bias", "scale", "shift", "scalar"}


def test_units_of_the_pre_activation_placements_and_of_no_others_begin_with_an_activation():
    for units in (BASIC, BOTTLENECK):
        begin = {name for name, layers in units.items() if "act" in layers.partition("conv")[0]}
        assert begin == set(PREACTIVATION)


def test_the_stem_activation_is_a_knob_of_pre_activation_nets_only(make_sweep):
    for placement in BASIC:
        words = ["model=resnet20", f"placement={placement}"]
        (default,), (old,) = make_sweep(*words), make_sweep(*words, "model.stem_activation=in_branch")
        one_run = default.spec.signature == old.spec.signature
        assert one_run is (placement not in PREACTIVATION)
        assert old.unused == ((f"model.stem_activation of {placement}",) if one_run else ())
        assert "stem_activation" not in default.spec.identity()["model"]
