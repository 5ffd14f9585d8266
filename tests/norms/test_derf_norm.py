"""Dynamic erf: its range, its slope at 0, its parameters."""

from __future__ import annotations

import math

import pytest
import torch

from normbench import norms


def test_alpha_and_shift_start_at_the_arguments_one_of_each_per_lane():
    layer = norms.build("derf", 6, 3, alpha=0.8, shift=-0.25)
    torch.testing.assert_close(layer.alpha.detach(), torch.full((3,), 0.8))
    torch.testing.assert_close(layer.shift.detach(), torch.full((3,), -0.25))
    assert norms.build("derf", 6).alpha.item() == 0.5
    assert norms.build("derf", 6).shift.item() == 0


def test_a_new_layer_has_slope_two_alpha_over_root_pi_at_zero():
    layer = norms.build("derf", 1, alpha=0.5).double()
    x = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(layer(x).sum(), x)
    assert slope.item() == pytest.approx(2 * 0.5 / math.sqrt(math.pi), rel=1e-12)


def test_the_output_stays_within_gamma_around_beta(make, draw, images):
    layer = make("derf", dtype=torch.float32)
    away = layer(1e6 * draw(images, dtype=torch.float32)) - layer.bias.view(1, -1, 1, 1)
    assert (away.abs() <= layer.weight.view(1, -1, 1, 1) * (1 + 1e-6)).all()


def test_the_shift_moves_the_input_and_beta_the_output(make, draw, images):
    moved, plain = make("derf"), make("derf")
    with torch.no_grad():
        plain.shift.zero_()
    x = draw(images)
    torch.testing.assert_close(moved(x), plain(x + moved.shift / moved.alpha), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"alpha": 0}, "derf: alpha must be a finite number > 0; got 0"),
        ({"shift": float("inf")}, "derf: shift must be a finite number"),
    ],
)
def test_an_argument_out_of_range_is_refused(args, message):
    with pytest.raises(norms.NormError, match=message):
        norms.build("derf", 6, **args)
