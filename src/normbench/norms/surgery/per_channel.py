"""Measure whether a norm is a fixed scale and shift per channel, as batch norms are in evaluation."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from normbench.norms.surgery.recognise import Found

#: The slope is measured between −FAR and FAR: large, so that a shift costs no digits; a power of two.
FAR = 2.0**10


def per_channel(found: Found, axes: int) -> tuple[Tensor, Tensor] | None:
    """Scale and shift per channel, both (K·C,) in fp64; None if the norm computes anything else.

    The layer is called on constants to measure them, then on random numbers to check them.
    """
    probe = copy.deepcopy(found.layer).double()
    for name in found.tail:
        setattr(probe, name, nn.Identity())
    channels = found.channels * found.lanes
    device = next((tensor.device for tensor in probe.state_dict().values()), torch.device("cpu"))
    numbers = torch.randn(3, channels, *(3,) * (axes - 2), generator=torch.Generator().manual_seed(0))
    x = numbers.to(device, torch.float64)

    def measured(x: Tensor) -> Tensor:
        y: Tensor = probe(x.movedim(1, found.axis))
        return y.movedim(found.axis, 1)

    def of_constant(value: float) -> Tensor:
        return measured(torch.full_like(x, value))[0].reshape(channels, -1)[:, 0]

    try:
        scale, shift = (of_constant(FAR) - of_constant(-FAR)) / (2 * FAR), of_constant(0)
        for size in (1e-3, 1.0, 1e3):
            wanted = size * x * _along(scale, x) + _along(shift, x)
            off = (measured(size * x) - wanted).abs().amax()
            if not off <= 1e-12 * wanted.abs().amax():  # NaN is refused, too
                return None
    except (RuntimeError, ValueError):  # the layer refuses a small map
        return None
    return scale, shift


def _along(vector: Tensor, x: Tensor) -> Tensor:
    return vector.view(1, -1, *(1,) * (x.dim() - 2))
