"""Clauses about inputs that no norm can work on."""

from __future__ import annotations

import torch

from normbench import norms
from normbench.norms.contract.subject import CHANNELS, IMAGES, Subject, changed, check, draw, state_of

#: Shapes that are not (N, 6, *spatial).
_OTHER_CHANNELS = ((6,), (4, 5, 3, 3), (4, 12, 3, 3), (4, 1, 6))


def _refused(subject: Subject, x: torch.Tensor, training: bool) -> bool:
    try:
        subject.make().train(training)(x)
    except norms.NormError:
        return True
    return False


def refused_inputs(subject: Subject) -> None:
    """Integers, complex numbers and inputs of other channels are refused with a NormError."""
    for training in (True, False):
        for dtype in (torch.complex64, torch.uint8, torch.int64):
            x = torch.ones(IMAGES).to(dtype)
            check(_refused(subject, x, training), f"an input of {dtype} is not refused; call Norm.forward")
        for shape in _OTHER_CHANNELS:
            check(
                _refused(subject, torch.ones(shape), training),
                f"{CHANNELS} channels: an input of shape {shape} is not refused; call Norm.forward",
            )


def empty_inputs(subject: Subject) -> None:
    """An input without values comes back empty, with gradients of 0, and leaves no trace."""
    for lanes in (1, 2):
        for training in (True, False):
            layer = subject.make(lanes)
            layer(draw(IMAGES, lanes=lanes))
            before = state_of(layer)
            x = draw((0, *IMAGES[1:]), lanes=lanes).requires_grad_()
            y = layer.train(training)(x)
            check((y.shape, y.dtype) == (x.shape, x.dtype), "an empty input does not come back empty")
            y.sum().backward()
            check(not changed(layer, before), "an empty input changes the state")


CLAUSES = (refused_inputs, empty_inputs)
