"""Layers and inputs for the tests of norms. A test that takes `key` runs for every registered norm."""

from __future__ import annotations

from importlib import import_module

import pytest

from normbench import norms
from normbench.norms.contract.subject import IMAGES, Subject, draw


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
def subject(key) -> Subject:
    """The norm under test, for clauses of the contract."""
    return Subject(key, fitting(key))


@pytest.fixture
def make():
    """Build a layer for K·6 channels, in fp64 unless told otherwise, its parameters unlike 1 and 0."""
    return lambda key, lanes=1, **args: Subject(key, fitting(key)).make(lanes, **args)


@pytest.fixture(name="draw")
def drawn():
    """Normal numbers of a shape, the same for the same seed; neither centred at 0 nor of variance 1."""
    return draw


@pytest.fixture
def shapes():
    """The shapes, from 2-D to 5-D, on which a layer can be trained."""
    return lambda layer: Subject(layer.key).shapes(layer)


@pytest.fixture
def oracle(key):
    """The transcription of the norm under test."""
    return transcription(key)


@pytest.fixture
def images() -> tuple[int, ...]:
    return IMAGES
