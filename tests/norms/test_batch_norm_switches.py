"""Batch norm without its centring or without its division: mean-only and variance-only batch norm."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from normbench import models, norms
from normbench.data.shape import Shape
from normbench.engine.mixed_statistics import _as_if_running
from normbench.models.layers import Conv2d
from oracles.common import averaged, channel_sets, moments

MEAN_ONLY, VARIANCE_ONLY = {"scale": False}, {"center": False}
HALVES = pytest.mark.parametrize("half", [MEAN_ONLY, VARIANCE_ONLY], ids=["mean-only", "variance-only"])


def same(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def written_out(x, mean, var, layer, half):
    """γ (x − μ) + β or γ x / √(σ² + ε) + β in numpy, channel by channel."""
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        moved = x[:, c] - mean[c] if half == MEAN_ONLY else x[:, c] / (var[c] + layer.eps) ** 0.5
        y[:, c] = layer.weight[c].item() * moved + layer.bias[c].item()
    return torch.from_numpy(y)


@HALVES
@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("told", [True, False], ids=["told of the run", "on its own"])
def test_training_and_evaluation_equal_the_formula(make, draw, shapes, half, batch, told):
    for shape in shapes(make("bn", batch=batch)):
        layer = make("bn", momentum=0.3, eps=0.01, batch=batch, **half)
        means, variances = [], []
        for seed in range(3):
            if told:
                layer.begin_step(seed, 3)
            x = draw(shape, seed)
            parts, outputs = x.split(batch or len(x)), layer(x).detach().split(batch or len(x))
            for part, output in zip(parts, outputs, strict=True):
                values = [np.array([part.numpy()[i] for i in indices]) for indices in channel_sets(part)]
                mean, var = [v.mean() for v in values], [v.var() for v in values]
                same(output, written_out(part.numpy(), mean, var, layer, half))
            means.append(np.mean([moments(part.numpy())[0] for part in parts], 0))
            variances.append(np.mean([moments(part.numpy())[1] for part in parts], 0))
        mean, var = averaged([0] * 6, means, 0.3), averaged([1] * 6, variances, 0.3)
        x = draw(shape, 9)
        same(layer.eval()(x).detach(), written_out(x.numpy(), mean, var, layer, half))


@HALVES
def test_the_running_statistics_and_the_state_are_those_of_batch_norm(make, draw, images, half):
    layer, bn = make("bn", **half), make("bn")
    for seed in range(3):
        layer(draw(images, seed)), bn(draw(images, seed))
    assert layer.state_dict().keys() == bn.state_dict().keys()
    for name, tensor in bn.state_dict().items():
        same(layer.state_dict()[name], tensor)


def test_the_two_halves_are_batch_norm(make, draw, images):
    x, affine = draw(images), {"affine": False}
    centred = make("bn", **MEAN_ONLY, **affine)(x)
    same(make("bn", **VARIANCE_ONLY, **affine)(centred), make("bn", **affine)(x))


@HALVES
@pytest.mark.parametrize("training", [True, False])
def test_gradients_agree_with_finite_differences(make, draw, half, training):
    layer = make("bn", channels=4, **half).train(training)
    names = [name for name, _ in layer.named_parameters()]

    def call(x, *values):
        fresh = copy.deepcopy(layer)
        return functional_call(fresh, dict(zip(names, values, strict=True)), (x,))

    parameters = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    assert torch.autograd.gradcheck(call, (draw((4, 4, 2, 3)).requires_grad_(), *parameters))


@HALVES
@pytest.mark.parametrize("batch", [None, 2])
def test_lanes_with_eps_and_momentum_of_their_own_are_lone_layers(make, draw, images, half, batch):
    own = {"eps": (1e-5, 1e-3, 0.1), "momentum": (0.1, "cumulative", "debiased:0.3")}
    together = make("bn", 3, batch=batch, **own, **half)
    for lane in range(3):
        alone = make("bn", batch=batch, **{n: v[lane] for n, v in own.items()}, **half)
        with torch.no_grad():
            for name, p in alone.named_parameters():
                p.copy_(together.get_parameter(name).view(3, -1)[lane])
        fresh = copy.deepcopy(together)
        for seed in range(3):
            x = draw(images, seed, lanes=3)
            same(fresh(x).unflatten(1, (3, -1))[:, lane], alone(x.unflatten(1, (3, -1))[:, lane]))
        x = draw(images, 9, lanes=3)
        y = fresh.eval()(x).unflatten(1, (3, -1))[:, lane]
        same(y, alone.eval()(x.unflatten(1, (3, -1))[:, lane]))


@HALVES
def test_a_bank_holds_the_bits_of_a_lone_layer(make, draw, images, half):
    together, alone = make("bn", momentum=0.1, **half), make("bn", momentum=0.5, **half)
    together.add_banks([0.5])
    for step in range(4):
        for layer in (together, alone):
            layer.begin_step(step, 4)
            layer(draw(images, step))
    x = draw(images, 9)
    with together.eval().using_bank(1):
        assert torch.equal(together(x), alone.eval()(x))


@HALVES
@pytest.mark.parametrize("scale", [1e20, 1e30])
def test_large_inputs_give_finite_outputs_and_gradients(make, draw, images, half, scale):
    layer = make("bn", dtype=torch.float32, **half)
    x = (scale * draw(images, dtype=torch.float32)).requires_grad_()
    y = layer(x)
    grads = torch.autograd.grad((y * torch.sin(torch.arange(y.numel()).view(y.shape))).sum(), x)
    assert all(t.isfinite().all() for t in (y, *grads, *layer.state_dict().values()))
    assert layer.eval()(x).isfinite().all()


@HALVES
def test_memory_layout_does_not_matter(make, draw, images, half):
    x = draw(images)
    same(make("bn", **half)(x.to(memory_format=torch.channels_last)), make("bn", **half)(x))


@HALVES
def test_what_it_is_invariant_to(make, draw, images, half):
    x = draw(images)
    ignored = {
        name: torch.allclose(make("bn", eps=1e-14, **half)(y), make("bn", eps=1e-14, **half)(x), atol=1e-9)
        for name, y in {"scale": 3 * x, "shift": x + 3}.items()
    }
    assert ignored == {"scale": half == VARIANCE_ONLY, "shift": half == MEAN_ONLY}


@HALVES
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_blended_statistics_reach_the_half_that_is_left(make, draw, images, half, share):
    layer = make("bn", eps=0.01, **half)
    layer(draw(images))
    layer.eval()
    x = draw(images, 1)
    m, v = layer.running_mean.view(1, -1, 1, 1), layer.running_var.view(1, -1, 1, 1)
    mean = share * x.mean((2, 3), keepdim=True) + (1 - share) * m
    square = share * x.square().mean((2, 3), keepdim=True) + (1 - share) * (v + m.square())
    wanted = x - mean if half == MEAN_ONLY else x / (square - mean.square() + 0.01).sqrt()
    wanted = wanted * layer.weight.view(1, -1, 1, 1) + layer.bias.view(1, -1, 1, 1)
    same(layer(_as_if_running(layer, x, share)), wanted)


@HALVES
def test_fold_is_exact_backward_and_forward(draw, half):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), norms.build("bn", 6, **half), nn.ReLU(), norms.build("bn", 6, **half),
        nn.Conv2d(6, 4, 1),
    ).double()  # fmt: skip
    for seed in range(3):
        model(draw((4, 3, 8, 8), seed))
    report = []
    folded = norms.fold(model.eval(), report=report)
    x = draw((4, 3, 8, 8), 9)
    same(folded(x), model(x))
    assert [str(change) for change in report] == [
        "1: BatchNorm → folded into 0", "3: BatchNorm → folded into 4",
    ]  # fmt: skip


def test_fold_goes_through_padding_only_without_a_shift(draw):
    """Variance-only batch norm without β has none."""
    for half, folds in ((VARIANCE_ONLY, True), (MEAN_ONLY, False)):
        norm = norms.build("bn", 3, affine="weight", **half)
        model = nn.Sequential(norm, nn.Conv2d(3, 4, 3, padding=1)).double()
        model(draw((4, 3, 8, 8)))
        report = []
        folded = norms.fold(model.eval(), report=report)
        same(folded(draw((4, 3, 8, 8), 1)), model(draw((4, 3, 8, 8), 1)))
        assert ("folded into 1" in str(report[0])) == folds
        if not folds:
            assert "pads with zeros, which must not be shifted" in str(report[0])


@HALVES
def test_converting_keeps_the_switches_and_arguments_win(draw, images, half):
    model = nn.Sequential(norms.build("bn", 6, **half)).double()
    model(draw(images))
    wanted = copy.deepcopy(model).eval()(draw(images, 1))
    norms.convert(model, "bn")
    same(model.eval()(draw(images, 1)), wanted)
    norms.convert(model, "bn", center=True, scale=True)
    assert model[0].center and model[0].scale
    torchs = nn.BatchNorm2d(6).double()
    torchs.load_state_dict(model[0].state_dict())
    same(model(draw(images, 1)), torchs.eval()(draw(images, 1)))


@pytest.mark.parametrize(("args", "drops"), [({}, True), (MEAN_ONLY, True), (VARIANCE_ONLY, False)])
def test_inserting_drops_a_bias_only_if_the_mean_is_subtracted(draw, args, drops):
    model, report = nn.Sequential(nn.Conv2d(6, 6, 3)), []
    norms.insert(model, "bn", after=nn.Conv2d, report=report, **args)
    assert (model[0].layer.bias is None) == drops
    assert ("its bias is dropped" in str(report[0])) == drops


@pytest.mark.parametrize(
    ("words", "biased"),
    [
        ([], False),
        (["norm.args.center=false"], False),  # β replaces the bias
        (["norm.affine=weight"], False),
        (["norm.affine=weight", "norm.args.center=false"], True),
        (["norm.affine=weight", "norm.args.scale=false"], False),
    ],
)
def test_models_keep_a_bias_that_nothing_removes_or_replaces(make_spec, words, biased):
    image = Shape(channels=1, size=32, classes=10, train_images=64, test_images=32)
    network = models.build([make_spec("model=lenet5", "norm=bn", *words)], image)
    convolutions = [m for m in network.modules() if isinstance(m, Conv2d)]
    assert len(convolutions) == 2
    assert {conv.bias is not None for conv in convolutions} == {biased}


def test_the_defaults_leave_signatures_as_they_were(make_spec):
    plain = make_spec("norm=bn")
    assert plain.signature == make_spec("norm=bn", "norm.args.center=true", "norm.args.scale=true").signature
    assert not {"center", "scale"} & set(plain.identity()["norm"].get("args", {}))
    others = [make_spec("norm=bn", f"norm.args.{name}=false").signature for name in ("center", "scale")]
    assert len({plain.signature, *others}) == 3


def test_both_switches_off_are_refused_with_what_to_use_instead():
    with pytest.raises(norms.NormError, match=r"center and scale must not both be false.*Use affine for"):
        norms.build("bn", 6, center=False, scale=False)
