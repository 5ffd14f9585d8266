"""Frozen batch norm: batch norm up to a share of the run, then its running statistics as constants."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from normbench import norms


def gradients(layer, x, g):
    x = x.clone().requires_grad_()
    y = layer(x)
    return y, *torch.autograd.grad(y, [x, *layer.parameters()], g)


@pytest.mark.parametrize("after", [0.25, 0.5, 0.7, 1])
def test_until_then_it_is_batch_norm_and_from_then_on_what_batch_norm_evaluates(make, draw, images, after):
    layer, bn = make("frozen", after=after), make("bn")
    for step in range(10):
        layer.begin_step(step, 10)
        bn.begin_step(step, 10)
        bn.train(step < 10 * after)
        assert layer.frozen == (not layer.tracks) == (not bn.training)
        x, g = draw(images, step), draw(images, 20 + step)
        for got, wanted in zip(gradients(layer, x, g), gradients(bn, x, g), strict=True):
            assert torch.equal(got, wanted)
        for name, tensor in bn.state_dict().items():
            assert torch.equal(layer.state_dict()[name], tensor)
    assert layer.num_batches_tracked == sum(step < 10 * after for step in range(10))


def test_every_share_of_a_run_freezes_on_its_step():
    for steps in (3, 7, 10, 30, 100, 1297):
        for at in range(steps + 1):
            layer = norms.build("frozen", 2, after=at / steps)
            layer.begin_step(max(at - 1, 0), steps)
            assert layer.frozen == (at == 0)
            layer.begin_step(at, steps)
            assert layer.frozen


def test_pretrained_statistics_are_kept_and_used_at_once(make, draw, images):
    bn = make("bn")
    for seed in range(3):
        bn(draw(images, seed))
    layer = make("frozen", after=0)
    layer.load_state_dict(bn.state_dict())
    wanted = bn.eval()(draw(images, 4))
    for layer_now in (layer, layer.train(), layer.eval()):
        assert torch.equal(layer_now(draw(images, 4)), wanted)
    assert all(torch.equal(tensor, bn.state_dict()[name]) for name, tensor in layer.state_dict().items())


def test_train_does_not_thaw_and_the_affine_map_goes_on_learning(make, draw, images):
    layer = make("frozen", after=0.5)
    layer(draw(images))
    layer.begin_step(5, 10)
    before = copy.deepcopy(layer.state_dict())
    layer.eval()
    layer.train()
    y = layer(draw(images, 1))
    grads = torch.autograd.grad(y.square().sum(), list(layer.parameters()))
    assert all(grad.abs().min() > 0 for grad in grads)
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())


def test_frozen_gradients_agree_with_finite_differences(make, draw):
    layer = make("frozen", channels=4)
    layer(draw((4, 4, 2, 3)))
    layer.begin_step(1, 2)
    assert torch.autograd.gradcheck(layer, draw((4, 4, 2, 3), 1).requires_grad_())


def test_where_nobody_says_how_far_the_run_is_nothing_but_zero_freezes():
    assert norms.build("frozen", 6, after=0).frozen
    assert not norms.build("frozen", 6, after=1e-9).frozen
    assert not norms.build("frozen", 6).frozen


def test_evaluation_with_batch_statistics_is_batch_norms_even_when_frozen(make, draw, images):
    layer, bn = make("frozen", after=0), make("bn")
    layer.eval().source = "batch"
    assert torch.equal(layer(draw(images)), bn(draw(images)))


def test_frozen_from_the_start_it_takes_what_batch_norm_refuses(draw):
    layer = norms.build("frozen", 6, after=0, batch=4).double()
    layer.check((1, 6, 1, 1))
    assert layer(draw((1, 6, 1, 1))).isfinite().all()
    with pytest.raises(norms.NormError, match="frozen: a statistic must average at least 2 values"):
        norms.build("frozen", 6, after=0.9).check((1, 6, 1, 1))


def test_frozen_from_the_start_it_is_torchvisions_with_its_buffers_as_parameters(draw, images):
    ops = pytest.importorskip("torchvision.ops")
    theirs = ops.FrozenBatchNorm2d(6)
    bn = nn.BatchNorm2d(6)
    for seed in range(3):
        bn(draw(images, seed, dtype=torch.float32))
    layer = norms.build("frozen", 6, after=0)
    layer.load_state_dict(bn.state_dict())
    theirs.load_state_dict(bn.state_dict())
    x = draw(images, dtype=torch.float32)
    torch.testing.assert_close(layer(x), theirs(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("after", [-0.1, 1.1, "late", None, float("nan")])
def test_a_share_out_of_range_is_refused(after):
    with pytest.raises(norms.NormError, match=r"frozen: after must be a number in \[0, 1\]; got"):
        norms.build("frozen", 6, after=after)
