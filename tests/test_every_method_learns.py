"""One training per norm and weight map on real digits: it learns, or an impossible site is refused."""

from __future__ import annotations

import pytest
import torch

from normbench import data, models, norms, weight_norms
from normbench.engine.train import train_stack
from normbench.errors import NormError

pytestmark = pytest.mark.slow

WORDS = ["model=lenet5", "data=digits", "batch=16", "steps=600", "optim.lr=0.4", "engine.device=cpu"]
#: Nets without statistics do not stand that learning rate.
CALM = ("none", "affine", "lrn", "dyt", "derf")


@pytest.fixture
def learn(make_spec):
    """Train two seeds of LeNet-5 and return their test errors; chance is 0.9."""

    def learn(*words: str) -> list[float]:
        specs = [make_spec(*WORDS, *words, f"seed={seed}") for seed in range(2)]
        dataset = data.load(specs[0].data, size=models.fitted_size(specs[0]))
        models.check(specs[0], dataset.shape)
        results = train_stack(specs, dataset, torch.device("cpu"))
        assert [result.diverged_at for result in results] == [None, None]
        return [result.metrics["test_error"] for result in results]

    return learn


@pytest.mark.parametrize("key", norms.catalogue())
def test_every_norm_learns_the_digits(learn, key):
    words = [f"norm={key}", *(["optim.lr=0.05"] if key in CALM else [])]
    try:
        errors = learn(*words)
    except NormError as refused:
        assert "site fc1" in str(refused), "a norm may refuse fully connected layers, and must name the first"
        errors = learn(*words, "placement.sites=conv*")
    assert max(errors) < 0.15


@pytest.mark.parametrize("key", weight_norms.catalogue())
def test_every_weight_map_learns_the_digits(learn, key):
    assert max(learn(f"weight={key}", "norm=gn")) < 0.15
