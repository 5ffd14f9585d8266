"""What input scale and class-pure batches do to training on real digits: the claims of these knobs."""

from __future__ import annotations

from functools import cache
from statistics import fmean

import pytest
import torch

from normbench import data, models
from normbench.config.compose import compose
from normbench.config.resolve import resolve
from normbench.engine.train import train_stack

CPU = torch.device("cpu")
#: Two hidden layers of sigmoids, plain SGD, three seeds.
SIGMOIDS = [
    "model=mlp", "model.hidden=[64,64]", "model.activation=sigmoid", "batch=32", "steps=200", "optim.lr=0.3",
    "optim.lr_scaling=none", "optim.momentum=0", "optim.weight_decay=0", "schedule=constant",
]  # fmt: skip


@cache
def errors(*words):
    """Test errors of three seeds; each set of words is trained once."""
    specs = [resolve(config).spec for config in compose((*words, "seed=1001,1002,1003"))]
    results = train_stack(specs, data.load(specs[0].data), CPU)
    return [result.metrics["test_error"] for result in results]


@pytest.mark.parametrize("kind", ["channel", "pixel", "image"])
def test_sigmoids_need_centred_pixels_without_norms_and_not_with_batch_norm(kind):
    """The order of d2l's LeNet by input scale: ÷ 255 learns late without norms, at once with batch norm."""
    raw, centred = (errors(*SIGMOIDS, "norm=none", f"data.standardize={k}") for k in ("none", kind))
    assert min(raw) > 0.5 > 0.35 > max(centred)
    normed = [
        error for k in ("none", kind) for error in errors(*SIGMOIDS, "norm=bn", f"data.standardize={k}")
    ]
    assert max(normed) < 0.1


#: d2l's plain LeNet: sigmoids, average pooling, SGD without weight decay.
LENET = [
    "model=lenet5", "model.activation=sigmoid", "model.pool=avg", "batch=32", "optim.lr=0.1",
    "optim.lr_scaling=none", "optim.weight_decay=0", "schedule=constant", "eval.statistics=[running]",
]  # fmt: skip
ROWS = [(scale, init) for scale in ("none", "channel") for init in ("xavier", "he:relu")]


@pytest.mark.slow
def test_input_scale_and_initial_weights_decide_whether_a_sigmoid_lenet_needs_batch_norm(make_spec):
    """The order of the four rows, by the mean test error along the curve: ÷ 255 with Xavier's weights stays
    at chance, standardized pixels with He's weights are best, the other two lie between. With batch norm, a
    sixth of the steps is enough in all four.
    """

    def curves(norm, steps, every):
        found = {}
        for scale, init in ROWS:
            words = [*LENET, f"norm={norm}", f"data.standardize={scale}", f"model.init={init}"]
            words += [f"steps={steps}", f"eval.every={every}"]
            specs = [make_spec(*words, f"seed={seed}") for seed in (1001, 1002, 1003)]
            dataset = data.load(specs[0].data, size=models.fitted_size(specs[0]))
            results = train_stack(specs, dataset, CPU)
            found[scale, init] = [
                [point["test_error"] for point in result.history if "test_error" in point]
                for result in results
            ]
        return found

    plain, normed = curves("none", 600, 60), curves("bn", 100, 100)
    mean = {row: fmean(error for curve in runs for error in curve) for row, runs in plain.items()}
    last = {row: [curve[-1] for curve in runs] for row, runs in plain.items()}
    worst, *between, best = (mean[row] for row in ROWS)
    assert min(last["none", "xavier"]) > 0.85, last  # chance is 0.9
    assert max(last["channel", "he:relu"]) < 0.1, last
    assert worst - 0.1 > max(between) >= min(between) > best + 0.1, mean
    assert max(curve[-1] for runs in normed.values() for curve in runs) < 0.3, normed


def test_class_pure_groups_hurt_batch_norm_and_not_group_norm():
    """ioffe2017's argument with groups of one class (batch 64 = 16 groups of 4 images)."""
    words = ["model=mlp", "model.hidden=[64]", "batch=4", "workers=16", "steps=150", "optim.lr=0.2"]
    words += ["optim.lr_scaling=none"]
    pure = [*words, "data.sampling=class_pure"]
    assert min(errors(*pure, "norm=bn")) > 0.5
    assert max(errors(*words, "norm=bn")) < 0.1
    assert max(errors(*pure, "norm=gn", "norm.args.num_groups=8")) < 0.1


#: A deep net, in which batch norm learns to read the class from the images beside it.
DEEP = [
    "model=resnet20", "model.width=8", "batch=4", "workers=16", "steps=150", "optim.lr=0.1",
    "optim.lr_scaling=none", "data.sampling=class_pure", "eval.statistics=[running,batch:class_pure]",
]  # fmt: skip


@pytest.fixture(scope="module")
def leak():
    """Mean test errors of batch norm after class-pure batches: by running and by class-pure statistics."""
    specs = [resolve(config).spec for config in compose((*DEEP, "norm=bn", "seed=1001,1002"))]
    results = train_stack(specs, data.load(specs[0].data), CPU)
    return tuple(
        fmean(result.metrics[name] for result in results)
        for name in ("test_error", "test_error@batch:class_pure")
    )


def test_batch_norm_reads_the_class_from_class_pure_companions(leak):
    """ioffe2017, figure 3: at least 20 points between the two statistics."""
    running, class_pure = leak
    assert class_pure < 0.05
    assert running - class_pure >= 0.2


@pytest.mark.parametrize("norm", ["gn", pytest.param("brn", marks=pytest.mark.slow)])
def test_group_norm_has_no_leak_and_batch_renorm_repairs_it(make_sweep, leak, norm):
    """At least 20 points better than batch norm by running statistics, and no gain from companions."""
    words = [*DEEP, f"norm={norm}"]
    specs = [each.spec for each in make_sweep(*words, "seed=1001,1002")]
    results = train_stack(specs, data.load(specs[0].data), CPU)
    own, class_pure = (
        fmean(result.metrics[name] for result in results)
        for name in ("test_error", "test_error@batch:class_pure")
    )
    assert own <= leak[0] - 0.2, (own, leak)
    assert abs(own - class_pure) <= 0.02
