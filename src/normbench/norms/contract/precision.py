"""Clauses about dtypes: a layer gives back the dtype it got, and computes its statistics in fp32 or wider."""

from __future__ import annotations

import torch

from normbench.norms.contract.subject import IMAGES, Subject, check, draw, near

HALF = (torch.bfloat16, torch.float16)


def shape_and_dtype(subject: Subject) -> None:
    """Shape and dtype are kept, for any number of spatial axes, in training and evaluation."""
    for dtype in (torch.float64, torch.float32, *HALF):
        layer = subject.make(dtype=torch.float64 if dtype == torch.float64 else torch.float32)
        for shape in subject.shapes(layer):
            x = draw(shape, dtype=dtype)
            for training in (True, False):
                y = layer.train(training)(x)
                check(y.shape == x.shape, f"{dtype}: the output of {shape} has the shape {tuple(y.shape)}")
                check(y.dtype == dtype, f"{dtype}: the output has the dtype {y.dtype}")
                check(bool(y.isfinite().all()), f"{dtype}: the output of {shape} is not finite")


def half_precision(subject: Subject) -> None:
    """Half precision enters and leaves, but the statistics are wide."""
    for dtype in HALF:
        narrow, wide = subject.make(dtype=torch.float32), subject.make(dtype=torch.float32)
        x = 300 * draw(IMAGES, dtype=dtype)  # squares overflow fp16
        near(narrow(x), wide(x.float()).to(dtype), 0, f"{dtype} input is not computed in fp32")


def autocast(subject: Subject) -> None:
    """Autocast does not narrow the layer."""
    x = draw(IMAGES, dtype=torch.float32)
    plain = subject.make(dtype=torch.float32)(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        check(torch.equal(subject.make(dtype=torch.float32)(x), plain), "autocast changes the output")


def wide_state(subject: Subject) -> None:
    """Casting a model to half leaves parameters and state wide."""
    layer = subject.make(dtype=torch.float32).half()
    for name, tensor in (*layer.named_parameters(), *layer.named_buffers()):
        if tensor.is_floating_point():
            check(
                tensor.dtype in (torch.float32, torch.float64),
                f"after .half(), {name} is {tensor.dtype}; normbench.norms.Norm keeps it wide",
            )
    y = layer(draw(IMAGES, dtype=torch.float16))
    check(y.dtype == torch.float16, f"after .half(), the output of fp16 is {y.dtype}")


def far_from_centred(subject: Subject) -> None:
    """fp32 statistics of an input far from 0 keep their digits: E[x²] − E[x]² is 0 or worse there."""
    for lanes in (1, 3):
        layer, wide = subject.make(lanes, dtype=torch.float32), subject.make(lanes)
        x = (draw(IMAGES, lanes=lanes) + 10_000).to(torch.float32)
        wanted = wide(x.double())
        scale = wanted.abs().max()
        near(
            layer(x).double() / scale, wanted / scale, 2e-3,
            "statistics of an input around 10,000 lose their digits in fp32",
        )  # fmt: skip


CLAUSES = (shape_and_dtype, half_precision, autocast, wide_state, far_from_centred)
