"""What input scale and class-pure batches do to training on real digits: the claims of these knobs."""

from __future__ import annotations

import pytest
import torch

from normbench import data
from normbench.engine.train import train_stack

CPU = torch.device("cpu")
#: Two hidden layers of sigmoids, plain SGD, three seeds.
SIGMOIDS = [
    "model=mlp", "model.hidden=[64,64]", "model.activation=sigmoid", "batch=32", "steps=200", "optim.lr=0.3",
    "optim.lr_scaling=none", "optim.momentum=0", "optim.weight_decay=0", "schedule=constant",
]  # fmt: skip


def errors(make_spec, *words, metric="test_error", seeds=3):
    specs = [make_spec(*words, f"seed={seed}") for seed in range(seeds)]
    results = train_stack(specs, data.load(specs[0].data), CPU)
    return [result.metrics[metric] for result in results]


@pytest.mark.parametrize("kind", ["channel", "pixel", "image"])
def test_sigmoids_need_centred_pixels_without_norms_and_not_with_batch_norm(make_spec, kind):
    """The order of d2l's LeNet by input scale: ÷ 255 learns late without norms, at once with batch norm."""
    raw, centred = (
        errors(make_spec, *SIGMOIDS, "norm=none", f"data.standardize={k}") for k in ("none", kind)
    )
    assert min(raw) > 0.5 > 0.35 > max(centred)
    normed = [
        error
        for k in ("none", kind)
        for error in errors(make_spec, *SIGMOIDS, "norm=bn", f"data.standardize={k}")
    ]
    assert max(normed) < 0.1


def test_class_pure_groups_hurt_batch_norm_at_evaluation_and_not_group_norm(make_spec):
    """ioffe2017's argument with groups of one class (batch 64 = 16 groups of 4 images)."""
    words = ["model=mlp", "model.hidden=[64]", "batch=4", "workers=16", "steps=150", "optim.lr=0.2"]
    words += ["optim.lr_scaling=none"]
    pure = [*words, "data.sampling=class_pure"]
    assert min(errors(make_spec, *pure, "norm=bn")) > 0.5
    assert max(errors(make_spec, *words, "norm=bn")) < 0.1
    assert max(errors(make_spec, *pure, "norm=gn", "norm.args.num_groups=8")) < 0.1
