"""The initial network can be made again: it is the one that training began with."""

from __future__ import annotations

import pytest
import torch

from normbench import data
from normbench.engine.initial_state import initial_network, scale_by_first_images
from normbench.engine.stack import Stack


@pytest.mark.parametrize(
    "words", [[], ["data.sampling=class_pure"], ["data.crop=2", "data.flip=true"]], ids=str
)
def test_lsuv_is_made_again_from_the_images_that_training_took(make_sweep, words):
    words = ["model=lenet5", "model.init=lsuv", "data=synthetic", "data.size=32", "data.channels=1", *words]
    specs = [r.spec for r in make_sweep(*words, "batch=8", "steps=4", "seed=1,2", "engine.precision=fp64")]
    dataset = data.load(specs[0].data)
    stack = Stack(specs, dataset, torch.device("cpu"))
    scale_by_first_images(stack.network, stack.spec, stack.batches, stack.steps)
    again = initial_network(specs, dataset)
    for (name, p), other in zip(stack.network.named_parameters(), again.parameters(), strict=True):
        assert torch.allclose(p, other, rtol=1e-10), name
