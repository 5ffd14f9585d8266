"""Label smoothing changes the training loss and nothing that is evaluated."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from normbench import data, models
from normbench.engine.evaluate import evaluate, lane_losses
from normbench.engine.train import train_stack

SMALL = ["model=lenet5", "data=synthetic", "data.train_size=64", "data.test_size=48", "data.channels=1",
    "data.size=32", "batch=16", "norm=bn", "eval.statistics=[running,batch,precise,adapt]"]  # fmt: skip


def smoothed(logits, labels, smoothing):
    """Cross-entropy with the target (1 − s) one-hot + s / classes (szegedy2016, §7), written out."""
    log_p = logits - logits.exp().sum(-1, keepdim=True).log()
    target = torch.full_like(logits, smoothing / logits.shape[-1])
    target.scatter_(-1, labels.unsqueeze(-1), 1 - smoothing + smoothing / logits.shape[-1])
    return -(target * log_p).sum(-1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
def test_the_training_loss_is_smoothed_cross_entropy_per_lane(smoothing):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(8, 3, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(5, (8, 3), generator=generator)
    torch.testing.assert_close(lane_losses(logits, labels, smoothing), smoothed(logits, labels, smoothing))


@pytest.mark.parametrize("smoothing", [0.1, 0.9])
def test_evaluation_ignores_label_smoothing_for_every_source_of_statistics(make_spec, smoothing):
    spec, plain = (make_spec(*SMALL, f"optim.label_smoothing={s}") for s in (smoothing, 0))
    dataset = data.load(spec.data)
    network = models.build([plain] * 2, dataset.shape)
    metrics = [evaluate(network, dataset, each, spec.eval.conditions) for each in (spec, plain)]
    assert metrics[0] == metrics[1]
    assert len(metrics[0][0][0]) == 8


def test_the_test_loss_of_a_run_is_plain_cross_entropy_of_its_network(make_spec):
    spec = make_spec(*SMALL, "optim.label_smoothing=0.9", "norm=gn", "engine.precision=fp64")
    dataset = data.load(spec.data)
    network = models.build([spec], dataset.shape).double()
    ((metrics,),) = evaluate(network, dataset, spec)
    mean, std = (torch.tensor(m, dtype=torch.float64).view(-1, 1, 1) for m in (dataset.mean, dataset.std))
    images = (dataset.test_images.double() / 255 - mean) / std
    with torch.no_grad():
        logits = network.eval()(images)[:, 0]
    assert metrics["test_loss"] == pytest.approx(F.cross_entropy(logits, dataset.test_labels).item())


def test_label_smoothing_reaches_training(make_spec):
    losses = []
    for smoothing in (0.0, 0.9):
        spec = make_spec(*SMALL, f"optim.label_smoothing={smoothing}", "steps=1")
        (result,) = train_stack([spec], data.load(spec.data), torch.device("cpu"))
        losses.append(result.metrics["train_loss"])
    assert abs(losses[0] - losses[1]) > 1e-3
