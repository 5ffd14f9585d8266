"""A run of the engine is the run of a plain PyTorch loop: weights, statistics, metrics, learning rates."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from normbench import data, models, rng
from normbench.engine.train import train_stack

HIDDEN = (14, 10)
STEPS = 130
MLP = ["model=mlp", f"model.hidden=[{','.join(map(str, HIDDEN))}]", "engine.precision=fp64", f"steps={STEPS}"]
RUNS = {
    "sgd": ["norm=bn", "batch=24", "optim.momentum=0.8", "schedule=constant"],
    "nesterov, clipping, warm-up, cosine": [
        "norm=bn", "batch=24", "optim.nesterov=true", "optim.clip=0.5", "optim.weight_decay=0.01",
        "optim.decay=weights", "schedule.warmup=0.1", "optim.label_smoothing=0.1",
    ],
    "adamw, milestones, augmentation": [
        "norm=none", "batch=32", "optim=adamw", "optim.betas=[0.8,0.95]", "optim.weight_decay=0.2",
        "optim.decay=weights", "optim.lr_scaling=sqrt", "schedule=step", "schedule.milestones=[0.5,0.8]",
        "schedule.gamma=0.2", "data.flip=true", "data.crop=2",
    ],
    "dropout, linear scaling": [
        "norm=bn", "batch=32", "workers=1", "model.dropout=0.3", "optim.lr_scaling=linear",
        "optim.decay=all", "optim.weight_decay=0.02", "norm.momentum=0.05", "norm.eps=0.001",
    ],
}  # fmt: skip


class Dropout(nn.Module):
    """Inverted dropout with the random numbers that the engine declares."""

    def __init__(self, spec, name: str) -> None:
        super().__init__()
        self.rate, self.keys, self.step = spec.model.dropout, rng.lane_keys([spec.seed], f"dropout/{name}"), 0

    def forward(self, x):
        if not self.training or not self.rate:
            return x
        kept = rng.uniform(self.keys, self.step, count=x.numel()).view(x.shape) >= self.rate
        return x * kept / (1 - self.rate)


def plain_network(spec, dataset) -> nn.Sequential:
    """An ordinary multilayer perceptron with the initial weights of the run."""
    widths = (dataset.channels * dataset.size**2, *HIDDEN)
    layers: list[nn.Module] = [nn.Flatten()]
    for number, (inputs, outputs) in enumerate(pairwise(widths), 1):
        if spec.norm.name == "bn":
            momentum, eps = spec.norm.momentum.rate, spec.norm.eps
            layers += [
                nn.Linear(inputs, outputs, bias=False),
                nn.BatchNorm1d(outputs, eps=eps, momentum=momentum),
            ]
        else:
            layers.append(nn.Linear(inputs, outputs))
        layers += [nn.ReLU(), Dropout(spec, f"fc{number}")]
    network = nn.Sequential(*layers, nn.Linear(widths[-1], dataset.classes)).double()
    ours = models.build([spec], dataset.shape).double()
    with torch.no_grad():
        for theirs, own in zip(network.parameters(), ours.parameters(), strict=True):
            theirs.copy_(own.view(theirs.shape))
    return network


def images_of_step(spec, dataset, step: int):
    """Images and labels of one step, before standardization: a new order per epoch, without its last part."""
    per_epoch = len(dataset.train_labels) // spec.batch
    epoch, place = divmod(step, per_epoch)
    count = len(dataset.train_labels)
    order = torch.randperm(count, generator=rng.generator(spec.seed, f"order/{epoch}"))
    flips, corners = (
        rng.uniform(rng.lane_keys([spec.seed], purpose), epoch, count=count, dtype=torch.float64)[0]
        for purpose in ("flip", "crop")
    )
    crop, side, images = spec.data.crop, dataset.size, []
    for at in range(place * spec.batch, (place + 1) * spec.batch):
        image = F.pad(dataset.train_images[order[at]], (crop,) * 4)
        top, left = divmod(int(corners[at] * (2 * crop + 1) ** 2), 2 * crop + 1)
        image = image[:, top : top + side, left : left + side]
        images.append(image.flip(-1) if spec.data.flip and flips[at] < 0.5 else image)
    chosen = order[place * spec.batch : (place + 1) * spec.batch]
    return torch.stack(images), dataset.train_labels[chosen]


def share_of_rate(schedule, step: int) -> float:
    """The schedule, written down a second time."""
    warm = round(schedule.warmup * STEPS)
    if step < warm:
        return (step + 1) / warm
    if schedule.name == "step":
        return schedule.gamma ** sum(step >= share * STEPS for share in schedule.milestones)
    if schedule.name == "cosine":
        return (1 + math.cos(math.pi * (step - warm) / (STEPS - warm))) / 2
    return 1.0


def plain_run(spec, dataset):
    """Weights and statistics after training, the metrics, and the learning rate of every step."""
    pixels = dataset.train_images.double()
    mean = pixels.mean((0, 2, 3)).view(-1, 1, 1)
    std = pixels.var((0, 2, 3), correction=0).sqrt().view(-1, 1, 1)
    network = plain_network(spec, dataset)
    weights = [p for p in network.parameters() if p.dim() > 1]
    others = [p for p in network.parameters() if p.dim() == 1]
    decay = spec.optim.weight_decay
    groups = [
        {"params": weights, "weight_decay": decay},
        {"params": others, "weight_decay": decay if spec.optim.decay == "all" else 0.0},
    ]
    if spec.optim.name == "sgd":
        optimizer = torch.optim.SGD(
            groups, lr=1.0, momentum=spec.optim.momentum, nesterov=spec.optim.nesterov
        )
    else:
        optimizer = torch.optim.AdamW(groups, lr=1.0, betas=spec.optim.betas, eps=spec.optim.eps)
    ratio = spec.batch / spec.optim.lr_reference
    base = spec.optim.lr * {"linear": ratio, "sqrt": ratio**0.5, "none": 1.0}[spec.optim.lr_scaling]
    losses, errors, rates = [], [], []
    network.train()
    for step in range(STEPS):
        images, labels = images_of_step(spec, dataset, step)
        for layer in network:
            if isinstance(layer, Dropout):
                layer.step = step
        logits = network((images.double() - mean) / std)
        loss = F.cross_entropy(logits, labels, label_smoothing=spec.optim.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        if spec.optim.clip != "none":
            nn.utils.clip_grad_norm_(network.parameters(), spec.optim.clip)
        rates.append(base * share_of_rate(spec.schedule, step))
        for group in optimizer.param_groups:
            group["lr"] = rates[-1]
        optimizer.step()
        losses.append(loss.item())
        errors.append((logits.argmax(1) != labels).double().mean().item())
    network.eval()
    with torch.no_grad():
        logits = network((dataset.test_images.double() - mean) / std)
    per_epoch = len(dataset.train_labels) // spec.batch
    metrics = {
        "train_loss": sum(losses[-per_epoch:]) / per_epoch,
        "train_error": sum(errors[-per_epoch:]) / per_epoch,
        "test_loss": F.cross_entropy(logits, dataset.test_labels).item(),
        "test_error": (logits.argmax(1) != dataset.test_labels).double().mean().item(),
    }
    return network, metrics, rates


@pytest.mark.parametrize("words", RUNS.values(), ids=RUNS)
def test_a_run_is_that_of_a_plain_loop(make_spec, words):
    lr = 0.05 if "optim=adamw" in words else 0.2
    spec = make_spec(*MLP, *words, "seed=4", f"optim.lr={lr}")
    dataset = data.load(spec.data)
    (result,) = train_stack([spec], dataset, torch.device("cpu"))
    network, metrics, rates = plain_run(spec, dataset)
    for name, value in metrics.items():
        assert result.metrics[name] == pytest.approx(value, rel=1e-9), name
    assert metrics["test_error"] < 0.8, "it has learned, so that the numbers above say something"
    for kind in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        ours, theirs = (
            [t for name, t in state.items() if name.endswith(f".{kind}")]
            for state in (result.final_state, network.state_dict())
        )
        for own, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(own.reshape(other.shape), other, rtol=1e-9, atol=1e-12)
    for point in result.history:
        assert point["lr"] == pytest.approx(rates[point["step"] - 1], rel=1e-12)


def test_lanes_of_a_stack_are_runs_of_the_plain_loop(make_spec):
    own = ["seed=1"], ["seed=2", "optim.lr=0.01"], ["seed=3", "optim.momentum=0.5", "norm.momentum=0.3"]
    specs = [make_spec(*MLP, "batch=24", "optim.lr=0.02", *words) for words in own]
    dataset = data.load(specs[0].data)
    results = train_stack(specs, dataset, torch.device("cpu"))
    for spec, result in zip(specs, results, strict=True):
        _, metrics, _ = plain_run(spec, dataset)
        for name, value in metrics.items():
            assert result.metrics[name] == pytest.approx(value, rel=1e-9), name
