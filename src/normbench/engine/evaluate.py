"""Test metrics of every lane, with running statistics or with statistics from another source."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from normbench import rng
from normbench.data.batches import test_batches
from normbench.data.dataset import Dataset
from normbench.engine.device import STORAGE, casting, default_memory_format
from normbench.engine.lane_assignment import running_norms, using_bank
from normbench.engine.recalibration import IMAGES, recalibrated
from normbench.models import Network
from normbench.norms.running import RunningNorm
from normbench.spec import RunSpec

Metrics = dict[str, float | None]

#: Most images at a time, summed over all lanes, by device. PERF: on a CPU their activations must stay in its
#: cache (docs/LOG.md).
IMAGES_IN_FLIGHT = {"cpu": 256, "cuda": 8192}


def evaluate(
    network: Network, dataset: Dataset, spec: RunSpec, sources: Sequence[str] = ("running",), banks: int = 1
) -> list[list[Metrics]]:
    """test_loss and test_error for each bank, lane and source of statistics.

    The metrics of a source other than `running` have its name as a suffix. They are equal for all banks of a
    lane:

        @batch    statistics of as many test images as in training: `batch`, or `batch × workers` if the norm
                  uses the images of all workers; None if the test split has fewer images
        @precise  statistics of 10,000 training images (all, if there are fewer), computed with the final
                  weights (PreciseBN, see `engine.recalibration`)
        @adapt    the same with the test images (AdaBN); None if there are fewer than one step needs

    All sources use the images in one fixed random order and leave out a last incomplete batch or step. Norms
    without running statistics evaluate in the same way for every source. The network is not changed.

    Returns:
        One dict of metrics per bank and lane.
    """
    layers = running_norms(network)
    untracked = not all(layer.tracked for layer in layers)
    batch = max([spec.batch, *(layer.batch or 1 for layer in layers)])
    equal_to_running = {s for s in sources if s == "running" or not layers or (untracked and s != "batch")}
    by_running = []
    for bank in range(banks if equal_to_running else 0):
        with using_bank(network, bank):
            by_running.append(_measure(network, dataset, spec, batch if untracked else None))
    metrics = by_running if "running" in sources else [[{}] * network.lanes] * banks
    for source in sources:
        if source == "running":
            continue
        if source in equal_to_running:
            measured = by_running[0]
        elif source == "batch":
            measured = _with_batch_statistics(network, dataset, spec, batch)
        else:
            measured = _with_recalibrated_statistics(source, network, dataset, spec)
        suffixed = [{f"{name}@{source}": value for name, value in lane.items()} for lane in measured]
        metrics = [[a | b for a, b in zip(bank, suffixed, strict=True)] for bank in metrics]
    return metrics


def _with_batch_statistics(network: Network, dataset: Dataset, spec: RunSpec, batch: int) -> list[Metrics]:
    if len(dataset.test_labels) < batch:
        return _no_metrics(network)
    with _batch_statistics(running_norms(network)):
        return _measure(network, dataset, spec, batch)


def _with_recalibrated_statistics(
    source: str, network: Network, dataset: Dataset, spec: RunSpec
) -> list[Metrics]:
    if source == "adapt":
        images, labels, most = dataset.test_images, dataset.test_labels, len(dataset.test_labels)
    else:
        images, labels, most = dataset.train_images, dataset.train_labels, max(IMAGES, spec.total)
    count = min(most, len(labels)) // spec.total * spec.total
    if count == 0:
        return _no_metrics(network)
    sample = _shuffled(dataset, images, labels, count)
    batches = (x for x, _ in _test_batches(network, sample, spec, spec.total))
    with recalibrated(network, batches, spec.engine):
        return _measure(network, dataset, spec, None)


def _no_metrics(network: Network) -> list[Metrics]:
    return [{"test_loss": None, "test_error": None}] * network.lanes


@torch.no_grad()
def _measure(network: Network, dataset: Dataset, spec: RunSpec, batch: int | None) -> list[Metrics]:
    """Metrics of every lane with running statistics (batch None), or with statistics of `batch` images."""
    device = dataset.test_images.device
    multiple = batch or 1
    if batch is not None:
        dataset = _shuffled(dataset, dataset.test_images, dataset.test_labels)
    whole_input = batch is not None and any(layer.batch is None for layer in running_norms(network))
    in_flight = multiple if whole_input else IMAGES_IN_FLIGHT[device.type] // network.lanes
    size = max(1, in_flight // multiple) * multiple
    losses, errors = torch.zeros(2, network.lanes, dtype=torch.float64, device=device)
    seen = 0
    network.eval()
    for x, y in _test_batches(network, dataset, spec, size):
        whole = len(y) // multiple * multiple
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


def _test_batches(
    network: Network, dataset: Dataset, spec: RunSpec, size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The test split in order, with the images repeated for every lane."""
    return test_batches(
        dataset, size, lanes=network.lanes, dtype=STORAGE[spec.engine.precision],
        channels_last=default_memory_format(dataset.test_images.device) == torch.channels_last,
    )  # fmt: skip


def _shuffled(dataset: Dataset, images: Tensor, labels: Tensor, most: int | None = None) -> Dataset:
    """The data set with these images as its test split, in a fixed random order; only the first `most`."""
    order = torch.randperm(len(labels), generator=rng.generator(0, "test order"))[:most].to(labels.device)
    return replace(dataset, test_images=images[order], test_labels=labels[order])


def finite(number: float) -> float | None:
    """The number, or None if it is infinite or NaN."""
    return number if math.isfinite(number) else None


def lane_losses(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Cross-entropy in fp32 or fp64: logits (N, K, classes), labels (N, K) → losses (N, K)."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    losses = F.cross_entropy(
        wide.flatten(0, 1), labels.flatten(), reduction="none", label_smoothing=label_smoothing
    )
    return losses.view(labels.shape)


@contextmanager
def _batch_statistics(layers: list[RunningNorm]) -> Iterator[None]:
    """Let norms with running statistics use the statistics of the batch in evaluation."""
    before = [layer.source for layer in layers]
    for layer in layers:
        layer.source = "batch"
    try:
        yield
    finally:
        for layer, source in zip(layers, before, strict=True):
            layer.source = source
