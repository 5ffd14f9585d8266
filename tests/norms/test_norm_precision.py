"""Dtypes: every norm gives back the one it got, and computes its statistics in fp32 or wider."""

from __future__ import annotations

import pytest
import torch

HALF = (torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", (torch.float64, torch.float32, *HALF), ids=str)
def test_shape_and_dtype_are_kept_for_any_number_of_spatial_axes(key, make, draw, shapes, dtype):
    layer = make(key, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    for shape in shapes(layer):
        x = draw(shape, dtype=dtype)
        for mode in (True, False):
            y = layer.train(mode)(x)
            assert (y.shape, y.dtype) == (x.shape, dtype)
            assert y.isfinite().all()


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_half_precision_enters_and_leaves_but_statistics_are_wide(key, make, draw, images, dtype):
    narrow, wide = make(key, dtype=torch.float32), make(key, dtype=torch.float32)
    x = 300 * draw(images, dtype=dtype)  # squares overflow fp16
    torch.testing.assert_close(narrow(x), wide(x.float()).to(dtype), rtol=0, atol=0)


def test_autocast_does_not_narrow_a_norm(key, make, draw, images):
    x = draw(images, dtype=torch.float32)
    plain = make(key, dtype=torch.float32)(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(make(key, dtype=torch.float32)(x), plain)


def test_casting_a_model_to_half_leaves_parameters_and_state_wide(key, make, draw, images):
    layer = make(key, dtype=torch.float32).half()
    assert {t.dtype for t in (*layer.parameters(), *layer.buffers()) if t.is_floating_point()} <= {
        torch.float32,
        torch.float64,
    }
    assert layer(draw(images, dtype=torch.float16)).dtype == torch.float16


@pytest.mark.parametrize("lanes", [1, 3])
def test_fp32_statistics_of_a_far_from_centred_input_keep_their_digits(key, make, draw, images, lanes):
    """A one-pass variance E[x²] − E[x]² is 0 or worse here."""
    layer, wide = make(key, lanes, dtype=torch.float32), make(key, lanes)
    x = (draw(images, lanes=lanes) + 10_000).to(torch.float32)
    wanted = wide(x.double())
    scale = wanted.abs().max()
    torch.testing.assert_close(layer(x).double() / scale, wanted / scale, rtol=0, atol=2e-3)
