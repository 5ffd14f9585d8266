"""SkipInit and Fixup: the identity at the start, the wiring and scales of the papers, and refusals."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from normbench import models
from normbench.data.shape import Shape
from normbench.errors import InputError
from normbench.models.branch import FixupBias, FixupScale, SkipInit
from normbench.models.layers import Conv2d, Linear
from normbench.models.resnet import Residual

RGB16 = Shape(3, 16, 10, 1, 1)
BASIC, BOTTLENECK = (["model.width=4", f"model=resnet{depth}"] for depth in (20, 50))
FIXUP = [*BASIC, "norm=none", "model.branch=fixup"]
SKIPINIT = [*BASIC, "norm=none", "model.branch=skipinit"]


def build(make_spec, *words, seeds=(0,)):
    return models.build([make_spec(*words, f"seed={seed}") for seed in seeds], RGB16).double()


def images(lanes=1):
    return torch.randn(2, 3 * lanes, 16, 16, generator=torch.Generator().manual_seed(8), dtype=torch.float64)


def disturb(network):
    """Move every parameter away from its start, so that no 0 or 1 hides a fault."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for p in network.parameters():
            scale = 0.2 / math.sqrt(max(p[0].numel(), 1))
            p += scale * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return network


@pytest.mark.parametrize("branch", ["skipinit", "fixup"])
@pytest.mark.parametrize("words", [BASIC, BOTTLENECK], ids=["basic", "bottleneck"])
@pytest.mark.parametrize("placement", ["conv_norm_act", "norm_act_conv"])
def test_every_block_equals_its_shortcut_at_the_start(make_spec, branch, words, placement):
    network = build(make_spec, *words, "norm=none", f"model.branch={branch}", f"placement={placement}")
    blocks = [module for module in network.modules() if isinstance(module, Residual)]
    x = network.body[0](images())
    for block in blocks:
        shortcut = block.shortcut(block.entry(x) if block.shared_entry else x)
        out = block(x)
        assert torch.equal(out, shortcut.relu() if placement == "conv_norm_act" else shortcut)
        x = out
    assert len(blocks) in (9, 16)


@pytest.mark.parametrize("words", [[], BOTTLENECK, ["model.shortcut=conv"], ["placement=norm_act_conv"]])
def test_the_logits_of_fixup_are_0_at_the_start(make_spec, words):
    logits = build(make_spec, *FIXUP, *words, seeds=(1, 2))(images(2))
    assert torch.equal(logits, torch.zeros_like(logits))


def test_plain_branches_have_no_scalars(make_spec):
    words = ["model=resnet20", "model.width=4", "norm=none"]
    network = build(make_spec, *words, "model.branch=plain")
    assert not [m for m in network.modules() if isinstance(m, SkipInit | FixupBias)]


def test_fixup_scales_initial_weights_by_the_number_and_depth_of_the_branches(make_spec):
    def deviations(*words):
        """√fan-in times the deviation of the weights: by position in the branch, and of the first layer."""
        network = models.build([make_spec(*words)], RGB16)
        convs = [[] for _ in range(3)]
        for block in [m for m in network.modules() if isinstance(m, Residual)]:
            for place, conv in enumerate(m for m in block.branch if isinstance(m, Conv2d)):
                convs[place].append(math.sqrt(conv.weight[0].numel()) * conv.weight.std().item())
        stem = network.body[0].weight
        return [sum(c) / len(c) for c in convs if c], math.sqrt(stem[0].numel()) * stem.std().item()

    he = math.sqrt(2)
    (first, last), stem = deviations("model=resnet20", "norm=none", "model.branch=fixup")
    assert (first, last) == (pytest.approx(he * 9**-0.5, rel=0.02), 0)
    assert stem == pytest.approx(he, rel=0.1)
    (first, second, last), _ = deviations(
        "model=resnet50", "model.width=32", "norm=none", "model.branch=fixup"
    )
    assert first == pytest.approx(he * 16**-0.25, rel=0.02)
    assert second == pytest.approx(he * 16**-0.25, rel=0.02)
    assert last == 0
    (first, last), _ = deviations("model=resnet20", "norm=none", "model.branch=skipinit")
    assert (first, last) == (pytest.approx(he, rel=0.02), pytest.approx(he, rel=0.02))


def by_hand(network, x, blocks, convolutions, conv_shortcut):
    """Fixup's forward pass as the authors wire it. Parameters are taken in the order of registration: entry,
    branch, shortcut, tail of every block.
    """
    take = iter(network.parameters())
    x = F.relu(F.conv2d(x, next(take), padding=1) + next(take))
    for stage in range(len(blocks)):
        for i in range(blocks[stage]):
            stride = 2 if i == 0 and stage else 1
            entry = x + next(take)
            out = entry
            for place in range(convolutions):
                if place:
                    out = F.relu(out + next(take)) + next(take)
                weight = next(take)
                step = stride if place == (convolutions == 3) else 1
                out = F.conv2d(out, weight, stride=step, padding=weight.shape[-1] // 2)
            out = out * next(take)
            if x.shape[1:] != out.shape[1:]:
                if conv_shortcut:
                    x = F.conv2d(entry, next(take), stride=stride)
                else:
                    halved = entry[:, :, ::stride, ::stride]
                    x = torch.cat((halved, torch.zeros_like(halved)), 1)
            x = F.relu(out + next(take) + x)
    pooled = x.mean((2, 3)) + next(take)
    logits = pooled @ next(take)[0].T + next(take)
    assert next(take, None) is None, "parameters are left over"
    return logits


@pytest.mark.parametrize(
    ("words", "blocks", "convolutions", "conv_shortcut"),
    [
        ([], (3, 3, 3), 2, False),
        (["model.shortcut=conv"], (3, 3, 3), 2, True),
        (BOTTLENECK, (3, 4, 6, 3), 3, True),
        (["model=resnet18", "model.width=4"], (2, 2, 2, 2), 2, True),
    ],
)
def test_fixup_is_wired_as_its_authors_wire_it(make_spec, words, blocks, convolutions, conv_shortcut):
    network = disturb(build(make_spec, *FIXUP, *words))
    wanted = by_hand(network, images(), blocks, convolutions, conv_shortcut)
    torch.testing.assert_close(network(images())[:, 0], wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("model", "scalars", "blocks"), [("resnet20", 5, 9), ("resnet50", 7, 16)])
def test_fixup_adds_its_scalars_and_nothing_else(make_spec, model, scalars, blocks):
    words = [f"model={model}", "norm=none"]
    network = models.build([make_spec(*words, "model.branch=fixup")], RGB16, dry=True)
    bare = models.build([make_spec(*words, "model.bias=false")], RGB16, dry=True)
    roles = list(network.roles().values())
    assert roles.count("scalar") == scalars * blocks + 2
    assert roles.count("bias") == 1  # the classifier's
    count = [sum(p.numel() for p in n.parameters()) for n in (network, bare)]
    assert count[0] - count[1] == scalars * blocks + 2


@pytest.mark.parametrize("placement", ["conv_norm_act", "norm_act_conv"])
def test_one_bias_of_fixup_stands_before_every_layer_but_the_first(make_spec, placement):
    network = build(make_spec, *FIXUP, f"placement={placement}")
    order = []
    for module in network.modules():
        if isinstance(module, FixupBias | Conv2d | Linear | torch.nn.ReLU):
            module.register_forward_hook(lambda m, *_: order.append(isinstance(m, FixupBias)))
    network(images())
    assert len(order) == 2 * (19 + 19 + 1) - 1  # convolutions, activations, classifier
    assert order == [bool(i % 2) for i in range(len(order))]


@pytest.mark.parametrize("placement", ["conv_norm_act", "norm_act_conv", "conv_act_norm", "after_add"])
@pytest.mark.parametrize("norm", ["none", "bn"])
def test_at_the_first_step_only_the_scalar_of_skipinit_learns_in_a_branch(make_spec, placement, norm):
    network = build(make_spec, *SKIPINIT, f"norm={norm}", f"placement={placement}", "batch=2")
    network(images()).square().sum().backward()
    for block in [m for m in network.modules() if isinstance(m, Residual)]:
        *inner, end = block.branch
        assert isinstance(end, SkipInit)
        assert not isinstance(end, FixupScale)
        assert end.scale.grad.abs().min() > 0
        assert all(torch.equal(p.grad, torch.zeros_like(p)) for m in inner for p in m.parameters())


def test_the_first_gradients_of_fixup_reach_the_last_convolutions(make_spec):
    network = build(make_spec, *FIXUP)
    head = network.body[-1]
    with torch.no_grad():
        head.weight.normal_()  # zero at the very first step, which moves the classifier alone
    network(images()).square().sum().backward()
    for block in [m for m in network.modules() if isinstance(m, Residual)]:
        first, last = [m for m in block.branch if isinstance(m, Conv2d)]
        assert torch.equal(first.weight.grad, torch.zeros_like(first.weight))
        assert last.weight.grad.abs().max() > 0


@pytest.mark.parametrize("words", [FIXUP, SKIPINIT])
def test_scalars_act_on_their_own_lane_only(make_spec, words):
    network = disturb(build(make_spec, *words, seeds=(1, 2, 3)))
    before = network(images(3))
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, SkipInit | FixupBias):
                next(module.parameters())[1] = math.nan
    after = network(images(3))
    assert after[:, 1].isnan().all()
    assert torch.equal(after[:, ::2], before[:, ::2])


@pytest.mark.parametrize("layer", [SkipInit, FixupScale, FixupBias])
def test_scalars_keep_dtype_and_layout(layer):
    x = torch.randn(2, 6, 4, 4).contiguous(memory_format=torch.channels_last).bfloat16()
    y = layer(3)(x)
    assert y.dtype == torch.bfloat16
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert layer(3)(torch.randn(2, 6)).shape == (2, 6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=lenet5", "model.branch=skipinit"], "branches, and model lenet5 has none; use a resnet"),
        (["model=vgg11", "norm=none", "model.branch=fixup"], "residual branches, and model vgg11 has none"),
        (["model=mlp", "model.branch=fixup"], "residual branches, and model mlp has none"),
        (["model=resnet20", "model.branch=fixup", "norm=bn"], "replaces norms; got norm=bn. Use norm=none"),
        (["model=resnet20", "model.branch=fixup", "norm=affine"], "replaces norms; got norm=affine"),
        ([*FIXUP, "weight=ws"], "weight=ws would overwrite it; use weight=none or weight=centered"),
        ([*FIXUP, "weight=wn"], "weight=wn would overwrite it"),
        ([*FIXUP, "model.init=lsuv"], "initialisation itself; got model.init=lsuv. Use model.init=he"),
        ([*FIXUP, "placement=act_before_add"], "got placement=act_before_add"),
        ([*FIXUP, "placement=conv_act_norm"], "placement=conv_norm_act and norm_act_conv; got"),
        (["model=resnet20", "model.branch=skipinit", "model.zero_last=true"], "both start a branch at 0"),
    ],
)  # fmt: skip
def test_contradictions_are_refused_with_one_line(make_spec, words, message):
    with pytest.raises(InputError, match=message) as error:
        models.architecture(make_spec(*words))
    assert "\n" not in str(error.value)


def test_fixup_accepts_centred_weights(make_spec):
    logits = build(make_spec, *FIXUP, "weight=centered")(images())
    assert torch.equal(logits, torch.zeros_like(logits))
