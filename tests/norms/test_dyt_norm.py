"""Dynamic Tanh: an odd, bounded function of every value by itself, with one slope per run."""

from __future__ import annotations

import pytest
import torch

from normbench import norms
from normbench.errors import NormError


def test_it_starts_as_the_hyperbolic_tangent_of_half_the_input(draw, images):
    x = draw(images)
    assert torch.equal(norms.build("dyt", images[1]).double()(x), torch.tanh(0.5 * x))


def test_without_shift_it_is_odd(make, draw, images):
    layer = make("dyt", affine="weight")
    assert torch.equal(layer(-draw(images)), -layer(draw(images)))


def test_for_a_small_slope_it_is_linear(draw, images):
    x = draw(images)
    y = norms.build("dyt", images[1], alpha=1e-5).double()(x)
    torch.testing.assert_close(y / 1e-5, x, rtol=1e-7, atol=0)


def test_the_scale_bounds_what_leaves_whatever_enters(make, draw, images):
    layer = make("dyt", affine="weight")
    y = layer(1e6 * draw(images))
    assert torch.equal(y.abs(), layer.weight.view(1, -1, 1, 1).expand_as(y))


@pytest.mark.parametrize("change", [lambda x: 3 * x, lambda x: x + 3], ids=["scale", "shift"])
def test_it_is_invariant_to_neither_scale_nor_shift(make, draw, images, change):
    layer = make("dyt")
    assert not torch.allclose(layer(change(draw(images))), layer(draw(images)), rtol=0, atol=0.1)


def test_a_runs_slope_learns_from_that_run_alone(make, draw, images):
    layer, x, g = make("dyt", 2), draw(images, lanes=2), draw(images, 1, lanes=2)
    (grad,) = torch.autograd.grad(layer(x), layer.alpha, g)
    slope = 1 - torch.tanh(layer.alpha.repeat_interleave(6).view(1, -1, 1, 1) * x).square()
    wanted = (g * layer.weight.view(1, -1, 1, 1) * slope * x).unflatten(1, (2, 6)).sum((0, 2, 3, 4))
    torch.testing.assert_close(grad, wanted, rtol=1e-12, atol=0)


def test_the_slope_is_spared_from_weight_decay_as_a_scale(make):
    assert make("dyt", 3).alpha.shape == (3,)
    assert make("dyt").roles["alpha"] == "scale"


@pytest.mark.parametrize("alpha", [0, -0.5, float("inf"), float("nan"), "half", None])
def test_a_slope_that_is_no_positive_number_is_refused(alpha):
    with pytest.raises(NormError, match="dyt: alpha must be a finite number > 0; got"):
        norms.build("dyt", 6, alpha=alpha)


def test_any_shape_can_be_trained_on():
    norms.build("dyt", 1).check((1, 1, 1, 1))
