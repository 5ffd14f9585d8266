"""L2 normalization: directions over channels, of a length that is learned."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from normbench import norms
from normbench.errors import NormError


def same(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def test_every_position_has_the_length_that_scale_says(make, draw, shapes):
    layer = make("l2", affine=False, scale=3.0)
    for shape in shapes(layer):
        lengths = layer(draw(shape)).norm(dim=1)
        same(lengths, torch.full_like(lengths, 3.0))


@pytest.mark.parametrize("eps", [1e-12, 5.0])
def test_it_equals_torchs_normalize(make, draw, shapes, eps):
    layer = make("l2", affine=False, scale=1.0, eps=eps)
    for shape in shapes(layer):
        same(layer(draw(shape)), F.normalize(draw(shape), dim=1, eps=eps))


@pytest.mark.parametrize("channels", [2, 6, 20])
def test_times_the_root_of_the_channels_it_is_rms_norm(make, draw, channels):
    x = draw((4, channels, 3, 3))
    unit = make("l2", channels=channels, affine=False, scale=math.sqrt(channels))
    same(unit(x), make("rms", channels=channels, affine=False, eps=1e-15)(x))


def test_a_vector_shorter_than_eps_is_divided_by_eps(make):
    x = torch.tensor([[0.3, -0.4]], dtype=torch.float64)
    same(make("l2", channels=2, affine=False, scale=1.0, eps=0.8)(x), x / 0.8)
    same(make("l2", channels=2, affine=False, scale=1.0, eps=0.2)(x), x / 0.5)


def test_zero_stays_zero_and_has_the_gradient_zero(make):
    x = torch.zeros(2, 6, 3, dtype=torch.float64, requires_grad=True)
    y = make("l2")(x)
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert not y.any()
    assert grad.isfinite().all()


def test_it_is_invariant_to_scale_and_not_to_shift(make, draw, images):
    layer, x = make("l2"), draw(images)
    same(layer(3 * x), layer(x))
    assert not torch.allclose(layer(x + 3), layer(x), rtol=0, atol=0.1)


def test_the_scale_starts_as_told_and_stays_where_it_is_not_learned(draw, images):
    learned = norms.build("l2", 6).double()
    assert learned.weight.eq(10).all()
    fixed = norms.build("l2", 6, affine="bias").double()
    assert [name for name, _ in fixed.named_parameters()] == ["bias"]
    same(fixed(draw(images)), learned(draw(images)))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_lanes_may_differ_in_an_eps_that_matters(make, draw, images, layout):
    every = [1e-12, 2.0, 8.0]
    x = draw(images, lanes=3).to(memory_format=layout)
    y = make("l2", 3, affine=False, eps=every)(x).unflatten(1, (3, 6))
    for lane, eps in enumerate(every):
        same(y[:, lane], make("l2", affine=False, eps=eps)(x.unflatten(1, (3, 6))[:, lane]))


@pytest.mark.parametrize("scale", [0, -1.0, float("nan"), "ten"])
def test_a_scale_that_is_no_positive_number_is_refused(scale):
    with pytest.raises(NormError, match="l2: scale must be a finite number > 0; got"):
        norms.build("l2", 6, scale=scale)


def test_a_single_channel_of_which_the_sign_is_left_is_refused():
    with pytest.raises(NormError, match=r"l2: a statistic must .* 1 channel, of which only the sign is left"):
        norms.build("l2", 1).check((8, 1, 4, 4))
    norms.build("l2", 2).check((1, 2))
