"""Layers and inputs for the tests of norms. A test that takes `key` runs for every registered norm."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch

from normbench import norms
from normbench.errors import NormError

CHANNELS = 6
SHAPES = ((4, CHANNELS), (4, CHANNELS, 5), (4, CHANNELS, 4, 3), (4, CHANNELS, 2, 3, 2))
IMAGES = SHAPES[2]


def transcription(key: str):
    """The oracle of a norm: a second, naive implementation.

    output(x, **args)           the output in training, x: (N, C, *spatial) of one run in fp64 numpy
    outputs(xs, **args)         instead of it, for norms with memory: the outputs at successive training steps
    evaluated(xs, x, **args)    the output in evaluation after training on xs, if that differs
    gradients(xs, gs, **args)   the input gradients for upstream gradients gs, if the backward pass is not the
                                gradient
    INVARIANT                   changes that the output of the first step ignores, ε aside. "scale", "shift":
                                of the whole input; "weight", "filters": one factor for the weight of the
                                convolution before it, or one per filter. The gradient of the weight is then
                                divided by the factor
    FITTING                     arguments besides the defaults that four images of six channels need
    VARIANTS                    arguments besides those under which it is compared

    args are the layer's parameters by name and the arguments of FITTING or of one of VARIANTS.
    """
    return import_module(f"oracles.{key}")


def fitting(key: str) -> dict:
    return getattr(transcription(key), "FITTING", {})


@pytest.fixture(params=sorted(norms.catalogue()))
def key(request) -> str:
    return request.param


@pytest.fixture
def make():
    """Build a layer for K·6 channels, in fp64 unless told otherwise, its parameters unlike 1 and 0."""

    def make(
        key: str, lanes: int = 1, *, dtype: torch.dtype = torch.float64, channels: int = CHANNELS, **args
    ):
        layer = norms.build(key, channels, lanes, **{**fitting(key), **args}).to(dtype)
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(0.5 + torch.rand(parameter.shape, generator=generator, device="cpu"))
        return layer

    return make


@pytest.fixture
def draw():
    """Normal numbers of a shape, the same for the same seed; neither centred at 0 nor of variance 1."""

    def draw(shape, seed: int = 0, *, lanes: int = 1, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        shape = (shape[0], lanes * shape[1], *shape[2:])
        numbers = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return (0.7 + 1.8 * numbers).to(dtype)

    return draw


@pytest.fixture
def shapes():
    """The shapes, from 2-D to 5-D, on which a layer can be trained."""

    def shapes(layer) -> list[tuple[int, ...]]:
        fitting = [shape for shape in SHAPES if _fits(layer, shape)]
        assert len(fitting) >= 2
        return fitting

    return shapes


def _fits(layer, shape) -> bool:
    try:
        layer.check((shape[0], layer.lanes * shape[1], *shape[2:]))
    except NormError:
        return False
    return True


@pytest.fixture
def oracle(key):
    """The transcription of the norm under test."""
    return transcription(key)


@pytest.fixture
def images() -> tuple[int, ...]:
    return IMAGES
