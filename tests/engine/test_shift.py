"""Claims about statistics at evaluation, on real digits, with the margins of the literature's small scale."""

from __future__ import annotations

from statistics import fmean

import pytest
import torch

from normbench import data
from normbench.engine.train import train_stack

WORDS = [
    "model=mlp", "model.hidden=[64,64,64]", "data=digits", "batch=32", "steps=300", "optim.lr=0.2",
    "optim.lr_scaling=none", "seed=0,1,2",
]  # fmt: skip


@pytest.fixture
def means(make_sweep):
    """A function from override words to the mean of each metric over three seeds."""

    def train(*words):
        specs = [resolved.spec for resolved in make_sweep(*WORDS, *words)]
        results = train_stack(specs, data.load(specs[0].data), torch.device("cpu"))
        names = [name for name in results[0].metrics if name.startswith("test_error")]
        return {name: fmean(result.metrics[name] for result in results) for name in names}

    return train


def test_batch_norm_collapses_under_contrast_and_statistics_of_test_images_bring_it_back(means):
    """schneider2020. At least 40 points are won, and under a prior of 16 images at least 30."""
    sources = "eval.statistics=[running,precise,adapt,adapt:32:16]"
    error = means("norm=bn", sources, "eval.corruptions=[contrast:5]")
    assert error["test_error"] < 0.05
    assert error["test_error/contrast:5"] - error["test_error/contrast:5@adapt"] >= 0.4
    assert error["test_error/contrast:5"] - error["test_error/contrast:5@adapt:32:16"] >= 0.3
    assert error["test_error/contrast:5@precise"] >= 0.4  # statistics of training images do not help
    assert error["test_error/contrast:5@adapt"] < 0.1


def test_momentum_0_001_leaves_stale_statistics_that_precise_ones_repair(means):
    """wu2021: at least 5 points under running statistics, at most 1.5 between precise ones."""
    stale, fresh = (
        means("norm=bn", f"norm.momentum={m}", "eval.statistics=[running,precise,precise:256]")
        for m in (0.001, 0.1)
    )
    assert stale["test_error"] - stale["test_error@precise"] >= 0.05
    assert abs(stale["test_error@precise"] - fresh["test_error@precise"]) <= 0.015
    assert stale["test_error@precise:256"] - stale["test_error@precise"] <= 0.015
