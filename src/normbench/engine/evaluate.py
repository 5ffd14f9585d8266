"""Test metrics of every lane, with running statistics or with those of the test batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from normbench import rng
from normbench.data.batches import test_batches
from normbench.data.dataset import Dataset
from normbench.engine.device import STORAGE, casting, layout
from normbench.engine.seats import running, using_bank
from normbench.models import Network
from normbench.norms.running import RunningNorm
from normbench.spec import RunSpec

Metrics = dict[str, float | None]

#: Images in flight over all lanes, by device. PERF: on a CPU their activations must stay in its cache
#: (docs/LOG.md).
IMAGES_IN_FLIGHT = {"cpu": 256, "cuda": 8192}


def evaluate(
    network: Network, dataset: Dataset, spec: RunSpec, *, final: bool, banks: int = 1
) -> list[list[Metrics]]:
    """test_loss and test_error of every bank and lane; at the end of a run for every statistics source asked
    for.

    A source other than `running` is a suffix: `test_error@batch` takes statistics over as many test images at
    a time as in training (`batch`, or `batch × workers` where all workers' count), in one fixed random order;
    images that do not fill a batch are left out, and a test split that does not fill one gives None. Norms
    without batch statistics evaluate the same way for every source.
    """
    layers = running(network)
    untracked = not all(layer.tracked for layer in layers)
    together = max([spec.batch, *(layer.batch or 1 for layer in layers)])
    metrics = []
    for bank in range(banks):
        with using_bank(network, bank):
            metrics.append(_measure(network, dataset, spec, together if untracked else None))
    if final and "batch" in spec.eval.statistics:
        if not layers:
            by_batch = metrics[0]
        elif len(dataset.test_labels) < together:
            by_batch = [dict.fromkeys(lane) for lane in metrics[0]]
        else:
            with _batch_statistics(layers):
                by_batch = _measure(network, dataset, spec, together)
        suffixed = [{f"{name}@batch": value for name, value in lane.items()} for lane in by_batch]
        metrics = [[a | b for a, b in zip(bank, suffixed, strict=True)] for bank in metrics]
    return metrics


@torch.no_grad()
def _measure(network: Network, dataset: Dataset, spec: RunSpec, together: int | None) -> list[Metrics]:
    """Metrics by running statistics, or by those of so many images together."""
    device = dataset.test_images.device
    unit = together or 1
    if together is not None:
        dataset = _shuffled(dataset)
    size = max(1, IMAGES_IN_FLIGHT[device.type] // network.lanes // unit) * unit
    losses, errors = torch.zeros(2, network.lanes, dtype=torch.float64, device=device)
    seen = 0
    network.eval()
    for x, y in test_batches(
        dataset, size, lanes=network.lanes, channels_last=layout(device) == torch.channels_last,
        dtype=STORAGE[spec.engine.precision],
    ):  # fmt: skip
        whole = len(y) // unit * unit
        if whole == 0:
            break
        labels = y[:whole, None].expand(-1, network.lanes)
        with casting(spec.engine, device):
            logits = network(x[:whole])
        losses += lane_losses(logits, labels, 0.0).sum(0)
        errors += (logits.argmax(2) != labels).sum(0)
        seen += whole
    network.train()
    return [
        {"test_loss": finite(loss), "test_error": error}
        for loss, error in zip((losses / seen).tolist(), (errors / seen).tolist(), strict=True)
    ]


def _shuffled(dataset: Dataset) -> Dataset:
    """The test split in an order that has nothing to do with its classes, always the same."""
    order = torch.randperm(len(dataset.test_labels), generator=rng.generator(0, "test order"))
    order = order.to(dataset.test_labels.device)
    return replace(dataset, test_images=dataset.test_images[order], test_labels=dataset.test_labels[order])


def finite(number: float) -> float | None:
    """The number, or None where it is none."""
    return number if math.isfinite(number) else None


def lane_losses(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Cross-entropy, in fp32 at least: logits (N, K, classes), labels (N, K) → (N, K)."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    losses = F.cross_entropy(
        wide.flatten(0, 1), labels.flatten(), reduction="none", label_smoothing=label_smoothing
    )
    return losses.view(labels.shape)


@contextmanager
def _batch_statistics(layers: list[RunningNorm]) -> Iterator[None]:
    """Let norms with running statistics take those of the batch at evaluation."""
    before = [layer.source for layer in layers]
    for layer in layers:
        layer.source = "batch"
    try:
        yield
    finally:
        for layer, source in zip(layers, before, strict=True):
            layer.source = source
