"""Claims about statistics at evaluation, on real digits, with the margins of the literature's small scale."""

from __future__ import annotations

from statistics import fmean

import pytest
import torch

from normbench import data, models
from normbench.engine.train import train_stack

WORDS = ["data=digits", "batch=32", "optim.lr_scaling=none", "seed=1001,1002,1003"]
MLP = ["model=mlp", "model.hidden=[64,64,64]", "steps=300", "optim.lr=0.2"]
VGG = ["model=vgg11", "model.width=8", "steps=120", "optim.lr=0.1"]


@pytest.fixture
def means(make_sweep):
    """A function from override words to the mean of each metric over three seeds."""

    def train(*words):
        specs = [resolved.spec for resolved in make_sweep(*WORDS, *words)]
        dataset = data.load(specs[0].data, size=models.fitted_size(specs[0]))
        results = train_stack(specs, dataset, torch.device("cpu"))
        names = [name for name in results[0].metrics if name.startswith("test_error")]
        return {name: fmean(result.metrics[name] for result in results) for name in names}

    return train


def test_batch_norm_collapses_under_contrast_and_statistics_of_test_images_bring_it_back(means):
    """schneider2020, severity 3: at least 40 points are won, under a prior of 16 images at least 30."""
    sources = "eval.statistics=[running,precise,adapt,adapt:32:16]"
    error = means(*VGG, "norm=bn", sources, "eval.corruptions=[contrast:3]")
    assert error["test_error"] < 0.05
    assert error["test_error/contrast:3"] - error["test_error/contrast:3@adapt"] >= 0.4, error
    assert error["test_error/contrast:3"] - error["test_error/contrast:3@adapt:32:16"] >= 0.3, error
    assert error["test_error/contrast:3@precise"] >= 0.4, error  # statistics of training images do not help
    assert error["test_error/contrast:3@adapt"] < 0.1, error


def test_group_norm_needs_no_adaptation_to_contrast(means):
    error = means(*MLP, "norm=gn", "eval.corruptions=[contrast:3]")
    assert error["test_error/contrast:3"] <= error["test_error"] + 0.02


def test_momentum_0_001_leaves_stale_statistics_that_precise_ones_repair(means):
    """wu2021: at least 5 points under running statistics, at most 1.5 between precise ones."""
    stale, fresh, last = (
        means(*MLP, "norm=bn", f"norm.momentum={m}", "eval.statistics=[running,precise,precise:256]")
        for m in (0.001, 0.1, 1.0)
    )
    assert stale["test_error"] - stale["test_error@precise"] >= 0.05
    precise = [error["test_error@precise"] for error in (stale, fresh, last)]
    assert max(precise) - min(precise) <= 0.015
    assert fresh["test_error"] <= fresh["test_error@precise"] + 0.015
    assert stale["test_error@precise:256"] - stale["test_error@precise"] <= 0.015
