"""Test metrics of every lane under every condition: a source of statistics, a corruption of the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from normbench.conditions import Condition
from normbench.corruptions import Corruption
from normbench.data.batches import test_reader
from normbench.data.corruption import corrupted
from normbench.data.dataset import Dataset
from normbench.data.streamed import StreamedImages
from normbench.engine.arrangement import arranged, shuffled
from normbench.engine.device import STORAGE, casting, default_memory_format
from normbench.engine.folded import folded
from normbench.engine.in_flight import images_in_flight, in_pieces
from normbench.engine.lane_assignment import running_norms, using_bank
from normbench.engine.mixed_statistics import blended, prior
from normbench.engine.recalibration import IMAGES, recalibrated
from normbench.engine.tally import Measured, Tally, finite, lane_losses, nothing
from normbench.models import Network
from normbench.norms.running import RunningNorm
from normbench.record import Metrics
from normbench.sources import RUNNING, Source
from normbench.spec import RunSpec

__all__ = ["Metrics", "evaluate", "finite", "lane_losses"]

#: Images of one pass under a prior, summed over all lanes. NUMERICS: the same on all devices, because later
#: passes see the statistics of earlier ones.
PASS_IMAGES = 256


def evaluate(
    network: Network,
    dataset: Dataset,
    spec: RunSpec,
    conditions: Sequence[Condition] = (Condition(),),
    banks: int = 1,
    metrics: Sequence[str] = (),
) -> list[list[Measured]]:
    """test_loss, test_error and `metrics` for each bank and lane, under names that end with the condition.

    Sources of statistics:

        running     what training left
        batch       of as many test images at a time as in training (`batch`, or `batch × workers` if all
                    workers' count); None if the test split has too few. `engine.arrangement` says which
                    images are beside each other
        precise     of training images, taken with the final weights; see `engine.recalibration`
        adapt       of test images, taken likewise; None if they do not fill a step. With a prior they are
                    mixed with the running ones; see `engine.mixed_statistics`
        blend       of the image itself, mixed with the running ones; see there

    Three more evaluate the averaged weights of `optim.ema` in place of the raw ones:

        ema_copy     with the running statistics of the raw net
        ema_average  with running statistics that are averaged in the same way
        ema_precise  with statistics taken as by precise, through the averaged weights

    Images are taken in one fixed random order. Those that do not fill a batch, or a step, are left out. If
    fewer images than a step are asked for, they are one batch. Norms without running statistics evaluate the
    same way for every source. Test images are corrupted before anything is taken of them. The network is
    left as it was. Norms that read running or population statistics are folded if there are many images
    (`engine.folded`).
    """
    evaluation = _Evaluation(network, spec, metrics)
    results: list[list[Measured]] = [[{} for _ in range(network.lanes)] for _ in range(banks)]
    images: dict[Corruption | None, Dataset] = {}
    known: dict[Source, list[list[Measured]]] = {}
    for source, corruption in conditions:
        if corruption not in images:
            images, known = {corruption: corrupted(dataset, corruption)}, {}  # one copy at a time
        in_effect = evaluation.in_effect(source)
        if in_effect not in known:
            known[in_effect] = evaluation.by_bank(in_effect, dataset, images[corruption], banks)
        condition = Condition(source, corruption)
        for bank, lanes in zip(results, known[in_effect], strict=True):
            for result, values in zip(bank, lanes, strict=True):
                result |= {name + condition.suffix: value for name, value in values.items()}
    return results


def predictions(
    network: Network, dataset: Dataset, spec: RunSpec, *, fold: bool = True
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits (n, K, classes) and labels (n,) of the test images by running statistics, some at a time.

    The order of the images is always the same. Take all: the network is in evaluation mode until the end.

    Args:
        fold: whether norms may be folded; hooks on layers need False.
    """
    evaluation = _Evaluation(network, spec, ())
    return evaluation.predictions(dataset, evaluation.as_running, fold=fold)


class _Taken(NamedTuple):
    """Images to take statistics of."""

    images: Tensor | StreamedImages
    labels: Tensor
    step: int  # images of one pass
    per_statistic: int | None  # if it is not the norms' own `batch`


class _Evaluation:
    """A network in evaluation, and what is measured of it."""

    def __init__(self, network: Network, spec: RunSpec, metrics: Sequence[str]) -> None:
        self.network, self.spec, self.metrics = network, spec, metrics
        self.layers = running_norms(network)
        self.untracked = not all(layer.tracked for layer in self.layers)
        self.together = max([spec.batch, *(layer.batch or 1 for layer in self.layers)])

    @property
    def as_running(self) -> int | None:
        """Images per statistic under source `running`: None, unless no running statistics are kept."""
        return self.together if self.untracked else None

    def in_effect(self, source: Source) -> Source:
        """The source whose values are those of a source here. Without running statistics, all sources of raw
        weights are one, and so are those of averaged weights.
        """
        if self.layers and (not self.untracked or source.kind == "batch"):
            return source
        return Source("ema_copy") if source.averaged else RUNNING

    def by_bank(self, source: Source, dataset: Dataset, test: Dataset, banks: int) -> list[list[Measured]]:
        """What one source gives each bank: `test` is `dataset` with its test images as they are evaluated."""
        if source.averaged:
            return self._averaged(source, dataset, test, banks)
        reads_running = source.kind in ("running", "blend") or source.prior is not None
        if not reads_running:
            return [self._measure_by(source, dataset, test)] * banks
        measured = []
        for bank in range(banks):
            with using_bank(self.network, bank):
                measured.append(self._measure_by(source, dataset, test))
        return measured

    def _averaged(self, source: Source, dataset: Dataset, test: Dataset, banks: int) -> list[list[Measured]]:
        """Measure the averaged weights, per bank."""
        if self.network.average is None:
            raise ValueError(f"{source} needs a network with averaged weights")
        statistics = Source("precise") if source.kind == "ema_precise" else RUNNING
        with self.network.average.in_network(statistics=source.kind == "ema_average"):
            return self.by_bank(statistics, dataset, test, banks)

    def _measure_by(self, source: Source, dataset: Dataset, test: Dataset) -> list[Measured]:
        if source.kind == "running":
            return self.measure(test, self.as_running)
        if source.kind == "batch":
            with batch_statistics(self.layers):
                return self.measure(test, self.together, source.form)
        if source.kind == "blend":
            with blended(self.network, source.share or 0.0):
                return self.measure(test, fold=False)
        taken = self._taken(source, dataset, test)
        if taken is None:
            return [nothing(self.metrics)] * self.network.lanes
        with self._population(source, taken, dataset):
            return self.measure(test)

    def _taken(self, source: Source, dataset: Dataset, test: Dataset) -> _Taken | None:
        """The images that precise or adapt take; None if they do not fill a step."""
        images, labels = dataset.train_images, dataset.train_labels
        most = max(IMAGES, self.spec.total)
        if source.kind == "adapt":
            images, labels, most = test.test_images, test.test_labels, len(test.test_labels)
        step, per_statistic = self.spec.total, None
        if source.images is not None:
            most = source.images
            if most < step:
                step = most // self.spec.batch * self.spec.batch or most
                per_statistic = min(step, self.spec.batch)
        whole = min(most, len(labels)) // step * step
        if whole == 0:
            return None
        order = shuffled(len(labels))[:whole].to(labels.device)
        return _Taken(images[order], labels[order], step, per_statistic)

    def _population(self, source: Source, taken: _Taken, dataset: Dataset) -> AbstractContextManager[None]:
        shown = replace(dataset, test_images=taken.images, test_labels=taken.labels)
        engine, per_statistic = self.spec.engine, taken.per_statistic
        if source.prior is None:
            batches = (x for x, _ in self._batches(shown, taken.step))
            pooled = source.form != "mean_var"
            return recalibrated(self.network, batches, engine, pooled=pooled, per_statistic=per_statistic)
        batches = (x for x, _ in self._batches(shown, self._pass(taken)))
        return prior(self.network, batches, engine, source.prior, per_statistic)

    def _pass(self, taken: _Taken) -> int:
        """Images of one pass under a prior: whole steps, at most PASS_IMAGES, that divide all."""
        steps = len(taken.labels) // taken.step
        most = max(1, PASS_IMAGES // self.network.lanes // taken.step)
        return taken.step * next(n for n in range(min(most, steps), 0, -1) if steps % n == 0)

    def measure(
        self, test: Dataset, together: int | None = None, form: str = "", *, fold: bool = True
    ) -> list[Measured]:
        """Measurements of every lane, see `predictions`; None if no image can be classified."""
        tally = Tally(self.network.lanes, test.classes, test.test_images.device, self.metrics)
        if len(test.test_labels) < (together or 1):
            return [nothing(self.metrics)] * self.network.lanes
        for logits, y in self.predictions(test, together, form, fold=fold):
            tally.add(logits, y)
        return tally.read()

    @torch.no_grad()
    def predictions(
        self, test: Dataset, together: int | None = None, form: str = "", *, fold: bool = True
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits (n, K, classes) and labels (n,) of the test images, some at a time.

        Args:
            test:     its test images are classified.
            together: images per statistic; None: norms read running statistics.
            form:     how images are put together, see `engine.arrangement`.
            fold:     whether norms that read running statistics may be folded.
        """
        network, device = self.network, test.test_images.device
        unit = together or 1
        if together is not None:
            order = arranged(test.test_labels, unit, form).to(device)
            test = replace(test, test_images=test.test_images[order], test_labels=test.test_labels[order])
        spanning = together is not None and any(layer.batch is None for layer in self.layers)
        most = unit if spanning else images_in_flight(self.spec, test.shape, network.lanes, device)
        size = max(1, most // unit) * unit
        network.eval()
        fold = fold and together is None
        used = folded(network, self.spec, len(test.test_labels)) if fold else network
        read = self._reader(test)

        def classify(some: slice) -> tuple[Tensor, Tensor]:
            x, y = read(some)
            with casting(self.spec.engine, device):
                return used(x), y

        yield from in_pieces(len(test.test_labels) // unit * unit, size, unit, classify)
        network.train()

    def _batches(self, dataset: Dataset, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The test split in order, with the images repeated for every lane."""
        read = self._reader(dataset)
        return (read(slice(start, start + size)) for start in range(0, len(dataset.test_labels), size))

    def _reader(self, dataset: Dataset) -> Callable[[slice], tuple[Tensor, Tensor]]:
        """Reads test images, repeated for every lane."""
        return test_reader(
            dataset, lanes=self.network.lanes, dtype=STORAGE[self.spec.engine.precision],
            channels_last=default_memory_format(dataset.test_images.device) == torch.channels_last,
        )  # fmt: skip


@contextmanager
def batch_statistics(layers: list[RunningNorm]) -> Iterator[None]:
    """Let norms with running statistics use the statistics of the batch in evaluation."""
    before = [layer.source for layer in layers]
    for layer in layers:
        layer.source = "batch"
    try:
        yield
    finally:
        for layer, source in zip(layers, before, strict=True):
            layer.source = source
