"""Norms with a second input, compared with their special cases and with their papers' formulas in numpy."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from normbench import norms
from normbench.norms import AdaIN, ConditionalBatchNorm, NormError
from oracles.common import averaged, by_running, channel_sets, moments, over, places

DOUBLE = torch.float64


def filled(layer: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return layer.double()


def condition_of(layer: ConditionalBatchNorm, count: int, seed: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    if layer.features is not None:
        return torch.randn(count, layer.lanes * layer.features, generator=generator, dtype=DOUBLE)
    return torch.randint(layer.conditions, (count, layer.lanes), generator=generator)


FORMS = [{"features": 5}, {"conditions": 7}]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lanes", [1, 2])
def test_conditional_batch_norm_equals_the_papers_formula(draw, form, lanes):
    layer = filled(ConditionalBatchNorm(6, lanes, momentum=0.3, **form))
    tables = [t.detach().unflatten(0, (lanes, -1)).numpy() for t in (layer.gain, layer.shift)]
    xs, zs = (
        [draw((4, 6, 3, 2), seed, lanes=lanes) for seed in range(3)],
        [condition_of(layer, 4, s) for s in range(3)],
    )
    ys = [layer(x, z).detach() for x, z in zip(xs, zs, strict=True)]
    evaluated = layer.eval()(xs[0], zs[1]).detach()
    for lane in range(lanes):
        mine = [x.unflatten(1, (lanes, -1))[:, lane].numpy() for x in xs]
        conditions = [z.view(4, lanes, -1)[:, lane].numpy() for z in zs]
        gain, shift = (table[lane] for table in tables)
        for y, x, z in zip(ys, mine, conditions, strict=True):
            wanted = _conditioned(over(x, channel_sets(x), 1e-5), z, gain, shift, form)
            np.testing.assert_allclose(
                y.unflatten(1, (lanes, -1))[:, lane].numpy(), wanted, rtol=0, atol=1e-10
            )
        means, variances = zip(*map(moments, mine), strict=True)
        mean, var = averaged([0] * 6, means, 0.3), averaged([1] * 6, variances, 0.3)
        plain = by_running(mine[0], mean, var, np.ones(6), np.zeros(6), 1e-5)
        wanted = _conditioned(plain, conditions[1], gain, shift, form)
        got = evaluated.unflatten(1, (lanes, -1))[:, lane].numpy()
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-10)


def _conditioned(y, condition, gain, shift, form):
    y = y.copy()
    for n in range(len(y)):
        for c in range(y.shape[1]):
            if "features" in form:
                a, b = (sum(table[c][f] * condition[n][f] for f in range(5)) for table in (gain, shift))
            else:
                a, b = gain[condition[n][0]][c], shift[condition[n][0]][c]
            y[n, c] = (1 + a) * y[n, c] + b
    return y


@pytest.mark.parametrize("form", FORMS)
def test_under_a_constant_condition_it_is_batch_norm(draw, form):
    layer = filled(ConditionalBatchNorm(6, **form))
    plain = norms.build("bn", 6).double()
    z = condition_of(layer, 1).expand(4, -1)
    with torch.no_grad():
        for mine, table, start in ((plain.weight, layer.gain, 1), (plain.bias, layer.shift, 0)):
            mine.copy_(start + (table @ z[0] if layer.features else table[z[0, 0]]))
    for step in range(3):
        x = draw((4, 6, 3, 2), step)
        torch.testing.assert_close(layer(x, z), plain(x), rtol=0, atol=1e-12)
    layer.eval(), plain.eval()
    torch.testing.assert_close(layer(x, z), plain(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_it_starts_as_batch_norm_without_scale_and_shift(draw, form):
    layer = ConditionalBatchNorm(6, **form).double()
    x = draw((4, 6, 3, 2))
    assert torch.equal(layer(x, condition_of(layer, 4)), norms.build("bn", 6, affine=False).double()(x))


def test_a_class_is_a_unit_vector(draw):
    vectors, classes = (
        filled(ConditionalBatchNorm(6, features=5)),
        filled(ConditionalBatchNorm(6, conditions=5)),
    )
    with torch.no_grad():
        classes.gain.copy_(vectors.gain.T)
        classes.shift.copy_(vectors.shift.T)
    x, z = draw((4, 6, 3, 2)), torch.tensor([4, 0, 0, 2])
    torch.testing.assert_close(classes(x, z), vectors(x, torch.eye(5, dtype=DOUBLE)[z]), rtol=0, atol=1e-13)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 5), (4, 6, 3, 2), (4, 6, 2, 2, 2)])
def test_lanes_of_conditional_batch_norm_are_lone_layers(draw, form, shape):
    stack = filled(
        ConditionalBatchNorm(6, 3, momentum=[0.1, "cumulative", 0.5], eps=[1e-5, 0.1, 1.0], batch=2, **form)
    )
    x, z = draw(shape, lanes=3).requires_grad_(), condition_of(stack, 4)
    y = stack(x, z)
    weights = torch.linspace(-1, 1, y.numel(), dtype=DOUBLE).view(y.shape)
    (grad, *grads) = torch.autograd.grad((y * weights).sum(), [x, stack.gain, stack.shift])
    for k, (momentum, eps) in enumerate(((0.1, 1e-5), ("cumulative", 0.1), (0.5, 1.0))):
        lone = ConditionalBatchNorm(6, momentum=momentum, eps=eps, batch=2, **form).double()

        def mine(tensor, axis, k=k):
            return tensor.detach().unflatten(axis, (3, -1)).select(axis, k)

        with torch.no_grad():
            for name in ("gain", "shift"):
                getattr(lone, name).copy_(mine(getattr(stack, name), 0))
        own = mine(x, 1).requires_grad_()
        out = lone(own, mine(z, 1))
        (own_grad, *own_grads) = torch.autograd.grad(
            (out * mine(weights, 1)).sum(), [own, lone.gain, lone.shift]
        )
        torch.testing.assert_close(out, mine(y, 1), rtol=0, atol=1e-12)
        torch.testing.assert_close(own_grad, mine(grad, 1), rtol=0, atol=1e-12)
        for a, b in zip(own_grads, grads, strict=True):
            torch.testing.assert_close(a, mine(b, 0), rtol=0, atol=1e-12)
        for name, buffer in lone.state_dict().items():
            torch.testing.assert_close(
                buffer.view(-1), mine(stack.state_dict()[name].view(-1), 0), rtol=0, atol=1e-13
            )


def test_a_lane_that_is_not_a_number_leaves_the_other_alone(draw):
    for form in FORMS:
        layer = filled(ConditionalBatchNorm(6, 2, **form))
        x, z = draw((4, 6, 3, 2), lanes=2), condition_of(layer, 4)
        clean = copy.deepcopy(layer)(x, z)
        with torch.no_grad():
            for table in layer.parameters():
                table.unflatten(0, (2, -1))[1].fill_(float("nan"))
        x[:, 6:] = float("nan")
        assert torch.equal(layer(x, z)[:, :6], clean[:, :6])


def test_one_class_for_all_runs_may_be_given_once(draw):
    layer = filled(ConditionalBatchNorm(6, 2, conditions=7))
    x, z = draw((4, 6, 3, 2), lanes=2), torch.tensor([1, 6, 0, 1])
    assert torch.equal(layer(x, z), copy.deepcopy(layer)(x, torch.stack([z, z], 1)))
    with pytest.raises(IndexError):
        layer(x, z + 1)


@pytest.mark.parametrize("args", [{}, {"features": 3, "conditions": 3}, {"features": 0}, {"conditions": 2.0}])
def test_conditional_batch_norm_refuses_what_makes_no_sense(args):
    with pytest.raises(
        NormError, match=r"ConditionalBatchNorm: (give features or conditions, one|.* whole number)"
    ):
        ConditionalBatchNorm(6, **args)


def test_conditional_norms_keep_dtypes_and_run_without_data(draw):
    layer = ConditionalBatchNorm(6, features=5).half()
    assert layer.gain.dtype == torch.float32
    x = draw((4, 6, 3, 2), dtype=torch.float16)
    assert layer(x, torch.randn(4, 5).half()).dtype == torch.float16
    assert AdaIN(6)(x, x).dtype == torch.float16
    with torch.device("meta"):
        for form in FORMS:
            layer = ConditionalBatchNorm(6, 2, **form).double()
            z = (
                torch.empty(4, 10, dtype=DOUBLE)
                if "features" in form
                else torch.empty(4, 2, dtype=torch.int64)
            )
            assert layer(torch.empty(4, 12, 3, 2, dtype=DOUBLE), z).shape == (4, 12, 3, 2)
        assert AdaIN(6)(torch.empty(4, 6, 3, 2), torch.empty(4, 6, 5)).shape == (4, 6, 3, 2)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_conditional_batch_norm_agree_with_finite_differences(draw, form):
    layer = filled(ConditionalBatchNorm(4, **form))
    z = condition_of(layer, 3)
    x = draw((3, 4, 2, 2)).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, gain, shift: torch.func.functional_call(layer, {"gain": gain, "shift": shift}, (x, z)),
        (x, layer.gain, layer.shift),
    )


def adain(content, style, eps):
    """huang2017, eq. (8), with μ and σ of eqs. (5), (6)."""
    y = np.empty_like(content)
    for n in range(len(content)):
        for c in range(content.shape[1]):
            own = [content[(n, c, *p)] for p in places(content)]
            other = [style[(n, c, *p)] for p in places(style)]
            mean, target = sum(own) / len(own), sum(other) / len(other)
            sigma = (sum((v - mean) ** 2 for v in own) / len(own) + eps) ** 0.5
            wanted = (sum((v - target) ** 2 for v in other) / len(other) + eps) ** 0.5
            y[n, c] = wanted * (content[n, c] - mean) / sigma + target
    return y


@pytest.mark.parametrize(
    ("shape", "other"), [((3, 6, 4, 3), (3, 6, 2, 5)), ((3, 6, 7), (3, 6, 2, 2, 2)), ((3, 6, 4), (3, 6))]
)
@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_adain_equals_the_papers_formula(draw, shape, other, eps):
    content, style = draw(shape), draw(other, 1)
    wanted = adain(content.numpy(), style.numpy(), eps)
    np.testing.assert_allclose(AdaIN(6, eps=eps)(content, style).numpy(), wanted, rtol=0, atol=1e-12)


def test_content_in_its_own_style_stays_what_it_is(draw):
    x = draw((4, 6, 3, 2))
    torch.testing.assert_close(AdaIN(6)(x, x), x, rtol=0, atol=1e-13)
    torch.testing.assert_close(AdaIN(6)(x, 3 * x - 2), 3 * x - 2, rtol=0, atol=1e-4)


def test_adain_to_a_standardized_style_is_instance_norm(draw):
    x, style = draw((4, 6, 3, 2)), torch.tensor([-1.0, 1.0], dtype=DOUBLE).expand(1, 6, 2)
    plain = norms.build("in", 6, affine=False)(x) * (1 + 1e-5) ** 0.5
    torch.testing.assert_close(AdaIN(6)(x, style), plain, rtol=0, atol=1e-12)


def test_lanes_of_adain_are_lone_layers(draw):
    x, style = draw((4, 6, 3, 2), lanes=2), draw((4, 6, 5), 1, lanes=2)
    stack = AdaIN(6, 2, eps=[1e-5, 0.5])(x, style)
    for k, eps in enumerate((1e-5, 0.5)):
        mine = slice(6 * k, 6 * k + 6)
        torch.testing.assert_close(
            AdaIN(6, eps=eps)(x[:, mine], style[:, mine]), stack[:, mine], rtol=0, atol=1e-14
        )


def test_adain_refuses_maps_without_deviation():
    assert not list(AdaIN(6).parameters())
    with pytest.raises(NormError, match="AdaIN: a statistic must average at least 2 values"):
        AdaIN(6).check((4, 6, 1, 1))


def test_gradients_of_adain_agree_with_finite_differences(draw):
    inputs = (draw((2, 3, 2, 2)).requires_grad_(), draw((2, 3, 3), 1).requires_grad_())
    assert torch.autograd.gradcheck(AdaIN(3), inputs)


def test_conditional_norms_are_in_no_catalogue():
    kinds = {entry.layer for entry in norms.catalogue().values()}
    assert not {AdaIN, ConditionalBatchNorm} & kinds
