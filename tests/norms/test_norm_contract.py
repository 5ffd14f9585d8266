"""Contracts that every norm layer must meet."""

from __future__ import annotations

import copy
import inspect
import re

import pytest
import torch
from torch.func import functional_call

from normbench import norms
from normbench.config.resolve import declared


def gradients(layer, x):
    """Output and the gradients of a fixed random projection of it, with respect to x and every parameter."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = layer(x)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    return y, torch.autograd.grad((y * weights).sum(), [x, *layer.parameters()])


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_constant_input_gives_finite_outputs_and_gradients(key, make, images, value):
    layer = make(key)
    y, grads = gradients(layer, torch.full(images, value, dtype=torch.float64))
    assert all(t.isfinite().all() for t in (y, *grads))


AWKWARD = {
    "one image": (1, 6, 4, 3),
    "one position": (4, 6, 1, 1),
    "one value per channel": (1, 6, 1, 1),
    "one channel": (4, 1, 4, 3),
    "a prime number of channels": (4, 7, 4, 3),
}


@pytest.mark.parametrize("shape", AWKWARD.values(), ids=AWKWARD)
def test_an_awkward_shape_is_refused_with_a_remedy_or_trained_on(key, make, draw, shape):
    try:
        layer = make(key, channels=shape[1])
        layer.check(shape)
    except norms.NormError as refused:
        assert str(refused).startswith(f"{key}: ")
        assert re.search(r"\b(use|set|lower|raise|choose|drop|leave|give)\b", str(refused), re.I), refused
        return
    y, grads = gradients(layer, draw(shape))
    assert all(t.isfinite().all() for t in (y, *grads, layer.eval()(draw(shape, 1))))


@pytest.mark.parametrize("training", [True, False])
def test_gradients_agree_with_finite_differences(key, make, draw, training):
    if training and not norms.entry(key).exact_gradient:
        return  # compared with its paper's in test_norm_oracle
    layer = make(key, channels=4).train(training)
    names = [name for name, _ in layer.named_parameters()]
    parameters = [p.detach().clone().requires_grad_() for p in layer.parameters()]

    def call(x, *values):
        fresh = copy.deepcopy(layer)  # every call is to see the state that the first saw
        return functional_call(fresh, dict(zip(names, values, strict=True)), (x,))

    x = draw((4, 4, 2, 3)).requires_grad_()
    assert torch.autograd.gradcheck(call, (x, *parameters))


def test_evaluation_repeats_itself_and_leaves_layer_and_input_alone(key, make, draw, images):
    layer = make(key)
    layer(draw(images, 1))
    layer.eval()
    x = draw(images, 2)
    before, given = copy.deepcopy(layer.state_dict()), x.clone()
    assert torch.equal(layer(x), layer(x))
    assert torch.equal(x, given)
    after = layer.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_state_changes_in_training_exactly_where_evaluation_differs(key, make, draw, images):
    layer = make(key)
    before = copy.deepcopy(layer.state_dict())
    layer(draw(images))
    changed = any(not torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())
    assert changed == norms.entry(key).eval_differs


def test_a_saved_layer_continues_training_bit_by_bit(key, make, draw, images):
    def train(layer, steps):
        for step in steps:
            y, (_, *grads) = gradients(layer, draw(images, step))
            with torch.no_grad():
                for parameter, grad in zip(layer.parameters(), grads, strict=True):
                    parameter -= 0.01 * grad
        return y

    straight, first = make(key), make(key)
    expected = train(straight, range(6))
    train(first, range(3))
    resumed = make(key)
    resumed.load_state_dict(copy.deepcopy(first.state_dict()))
    assert torch.equal(train(resumed, range(3, 6)), expected)
    saved = resumed.state_dict()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in straight.state_dict().items())


def test_batch_statistics_are_declared_truthfully(key, make, draw, images):
    x = draw(images)
    other = torch.cat([draw(images, 1)[:-1], x[-1:]])
    assert torch.equal(make(key)(x)[-1], make(key)(other)[-1]) != norms.entry(key).batch_statistics


def test_reading_history_is_declared_truthfully(key, make, draw, images):
    """What earlier batches left changes the output in training if and only if the configuration says so."""
    fresh, seasoned = make(key), make(key)
    for step in (0, 1):
        seasoned.begin_step(step, 3)
        seasoned(draw(images, 1 + step))
    fresh.begin_step(2, 3)
    seasoned.begin_step(2, 3)
    x = draw(images)
    assert torch.equal(fresh(x), seasoned(x)) != norms.entry(key).reads_history


def test_banks_are_declared_if_and_only_if_training_never_reads_the_running_statistics(
    key, make, draw, images
):
    """Any buffer is changed by any amount: the output in training stays the same to the bit."""
    layer, other = make(key), make(key)
    for step in (0, 1):  # until full buffers and the last phase of every schedule
        for each in (layer, other):
            each.begin_step(step, 2)
            gradients(each, draw(images, 1 + step))
    statistics = [name for name, t in other.named_buffers() if name in other.state_dict()]
    with torch.no_grad():
        for name in statistics:
            buffer = other.get_buffer(name)
            buffer.copy_(buffer + 3)
    unread = torch.equal(layer(draw(images)), other(draw(images)))
    assert declared("norm", key)["banks"] == (bool(statistics) and unread)


def test_without_batch_statistics_an_image_alone_comes_out_as_in_a_batch(key, make, draw, shapes):
    if norms.entry(key).batch_statistics:
        return
    layer = make(key)
    for shape in shapes(layer):
        x = draw(shape)
        torch.testing.assert_close(layer(x[2:3]), layer(x)[2:3], rtol=1e-13, atol=1e-13)


def test_absorbing_a_bias_is_declared_truthfully(key, make, draw, images):
    layer = make(key)
    gradients(layer, draw(images, 2))  # the first batch is special for norms that read history
    layer.begin_step(2, 3)  # late in a run, after the first phase of every schedule
    bias = torch.zeros(images[1], dtype=torch.float64, requires_grad=True)
    y = layer(draw(images) + bias[:, None, None])
    (grad,) = torch.autograd.grad((y * draw(images, 1)).sum(), bias)
    assert (grad.abs().max() < 1e-10) == norms.entry(key).absorbs_bias


def test_whether_evaluation_differs_is_declared_truthfully(key, make, draw, images):
    layer = make(key)
    x = draw(images)
    evaluated = layer.eval()(x)  # first, because training on x may move the statistics of evaluation
    assert torch.equal(layer.train()(x), evaluated) != norms.entry(key).eval_differs


@pytest.mark.parametrize("lanes", [1, 2])
def test_memory_layout_does_not_matter(key, make, draw, images, lanes):
    x = draw(images, lanes=lanes)
    expected, wanted = gradients(make(key, lanes), x)
    strided = torch.stack([x, x], dim=2)[:, :, 1]
    turned = x.transpose(2, 3).contiguous().transpose(2, 3)
    for other in (x.to(memory_format=torch.channels_last), strided, turned):
        assert other.stride() != x.stride()
        y, got = gradients(make(key, lanes), other)
        torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
        for a, b in zip(got, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_affine_decides_which_parameters_there_are(key, make):
    def names(**args) -> set[str]:
        return {name for name, _ in make(key, **args).named_parameters()}

    if "affine" not in norms.entry(key).arguments:
        assert not {"weight", "bias"} & names()
        return
    wanted = {True: {"weight", "bias"}, "weight": {"weight"}, "bias": {"bias"}, False: set()}
    own = names() - {"weight", "bias"}
    for affine, present in wanted.items():
        assert names(affine=affine) - own == present


def test_every_parameter_has_a_role(key, make):
    layer = make(key)
    assert {name for name, _ in layer.named_parameters()} <= set(layer.roles)


def test_parameters_and_buffers_lead_with_the_lanes(key, make):
    layer = make(key, 3)
    assert all(tensor.shape[0] % 3 == 0 for tensor in layer.state_dict().values())


def test_a_layer_builds_and_runs_without_data(key, make, images):
    with torch.device("meta"):
        layer = make(key, 2)
        x = torch.empty(images[0], 2 * images[1], *images[2:], dtype=torch.float64)
        assert layer(x).shape == x.shape


def test_a_layer_needs_its_channels_alone_and_has_one_lane_by_default(key):
    parameters = inspect.signature(norms.entry(key).layer).parameters
    channels, lanes, *_ = parameters.values()
    assert (channels.name, channels.default) == ("channels", inspect.Parameter.empty)
    assert (lanes.name, lanes.default) == ("lanes", 1)
    assert inspect.signature(norms.build).parameters["lanes"].default == 1
