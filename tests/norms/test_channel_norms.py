"""Norms over channels: which groups there are, and rows of any length by either way of computing."""

from __future__ import annotations

import pytest
import torch

from normbench import norms
from normbench.norms.methods import ln_c as layer_c


@pytest.mark.parametrize(
    ("channels", "size"), [(1, 1), (6, 6), (16, 16), (20, 10), (64, 16), (84, 14), (120, 15), (17, 1)]
)
def test_the_default_group_is_the_largest_divisor_up_to_sixteen(channels, size):
    layer = norms.build("gn", channels, 3)
    assert (layer.group_size, layer.num_groups) == (size, channels // size)


def test_groups_can_be_given_by_number_or_by_size():
    assert norms.build("gn", 64, num_groups=32).group_size == 2
    assert norms.build("gn", 64, group_size=32).num_groups == 2


def test_what_a_group_norm_prints_tells_the_groups_in_effect():
    assert (
        str(norms.build("gn", 20))
        == "GroupNorm(20, lanes=1, eps=1e-05, affine=True, num_groups=2, group_size=10)"
    )


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("affine", [True, False, "weight", "bias"])
def test_short_and_long_rows_are_computed_alike(make, draw, shapes, monkeypatch, lanes, affine):
    layer = make("ln_c", lanes, affine=affine, eps=[1e-5, 0.1, 1.0][:lanes])
    for shape in shapes(layer):
        results = []
        for limit in (1, 100):
            monkeypatch.setattr(layer_c, "SHORT_ROW", limit)
            x = draw(shape, lanes=lanes).requires_grad_()
            y = layer(x)
            results.append((y, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])))
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


def test_even_windows_of_local_response_norm_reach_further_down(make):
    x = torch.zeros(1, 6, 1, 1, dtype=torch.float64)
    x[0, 2] = 1.0
    energy = make("lrn", size=4, alpha=4.0, beta=1.0, k=1.0)(x + 1e-9) / (x + 1e-9)
    assert (energy.flatten() < 0.9).tolist() == [False, True, True, True, True, False]
