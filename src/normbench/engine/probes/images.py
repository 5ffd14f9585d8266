"""One pass over training images for all probes of activations.

It is the pass of PreciseBN (`engine.recalibration`): up to 10,000 training images in one fixed random order
and in batches of a training step; norms take the statistics of their batch; dropout and augmentation are off.
Cost: one forward pass over these images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from normbench import norms, rng
from normbench.data.batches import test_batches
from normbench.engine.device import STORAGE, default_memory_format
from normbench.engine.probes.moments import Moments
from normbench.engine.probes.protocol import ActivationProbe, Point
from normbench.engine.recalibration import IMAGES, recalibrated
from normbench.models import Network
from normbench.models.activations import ACTIVATIONS


def collect(point: Point, probes: Sequence[ActivationProbe]) -> list[dict[str, Any]]:
    """For every probe its collectors by layer, after the pass; empty if there are no probes."""
    if not probes:
        return []
    found: list[dict[str, Any]] = []
    shared: dict[tuple[str, str], Moments] = {}  # PERF: probes of moments at one place share them
    with ExitStack() as hooks:
        for probe in probes:
            found.append({})
            for name, layer in listened(point.network, probe.at).items():
                collector = probe.collector(point.lanes)
                known = shared.get((probe.at, name))
                if isinstance(collector, Moments) and known is not None:
                    known.order = max(known.order, collector.order)
                    found[-1][name] = known
                    continue
                if isinstance(collector, Moments):
                    shared[probe.at, name] = collector
                found[-1][name] = collector
                hooks.callback(_listen(layer, collector, before=probe.at == "input").remove)
        # PERF: the statistics are put back, so they need not be those of all values together
        with recalibrated(point.network, images(point), point.spec.engine, pooled=False):
            pass
    return found


def listened(network: Network, at: str) -> dict[str, nn.Module]:
    """The layers that a probe listens to, by name; see `ActivationProbe.at`."""
    if at != "activation":
        return dict(network.norms())
    kinds = tuple(type(make()) for make in ACTIVATIONS.values())
    layers = [m for m in network.modules() if isinstance(m, kinds) or _stands_for_activation(m)]
    return {f"act{number}": layer for number, layer in enumerate(layers, 1)}


def _stands_for_activation(module: nn.Module) -> bool:
    return isinstance(module, norms.Norm) and module.activated


def _listen(layer: nn.Module, take: Callable[[Tensor], None], *, before: bool) -> Any:
    def on_input(module: nn.Module, inputs: tuple[Tensor]) -> None:
        take(wide(inputs[0]))

    def on_output(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        take(wide(output))

    return layer.register_forward_pre_hook(on_input) if before else layer.register_forward_hook(on_output)


def wide(x: Tensor) -> Tensor:
    """Values in fp32 at least."""
    x = x.detach()
    return x if x.dtype == torch.float64 else x.float()


def images(point: Point) -> Iterator[Tensor]:
    """The images of the pass, (N, K·C, H, W) with N images of one training step."""
    dataset, total = point.dataset, point.spec.total
    whole = min(max(IMAGES, total), len(dataset.train_labels)) // total * total
    order = torch.randperm(len(dataset.train_labels), generator=rng.generator(0, "test order"))
    chosen = order[:whole].to(dataset.train_labels.device)
    taken = replace(
        dataset, test_images=dataset.train_images[chosen], test_labels=dataset.train_labels[chosen]
    )
    batches = test_batches(
        taken, total, lanes=point.lanes, dtype=STORAGE[point.spec.engine.precision],
        channels_last=default_memory_format(dataset.test_images.device) == torch.channels_last,
    )  # fmt: skip
    return (x for x, _ in batches)
