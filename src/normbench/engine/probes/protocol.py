"""What a probe may read, and what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from normbench.data.batches import Batches
from normbench.data.dataset import Dataset
from normbench.data.shape import Shape
from normbench.engine.evaluate import Metrics
from normbench.engine.lane_assignment import LaneAssignment
from normbench.models import Network
from normbench.spec import RunSpec

#: Values of one lane by layer: a number, a list of numbers, or a histogram {"edges": […], "counts": […]}.
ByLayer = dict[str, Any]


@dataclass(frozen=True)
class Reading:
    """What a probe found, one entry per lane.

    Attributes:
        scalars: quantity → K numbers; a number that is not finite means that there is none.
        layers:  quantity → K values by layer.
    """

    scalars: Mapping[str, Sequence[float | None]]
    layers: Mapping[str, Sequence[ByLayer]] = field(default_factory=dict)


@dataclass
class Point:
    """A stack between two steps, as probes see it.

    Attributes:
        spec:       what the lanes have in common.
        network:    K lanes in training mode, as the last step left it.
        assignment: lane and bank of every run.
        dataset:    on the device, its images fitted to the model.
        step:       number of finished steps.
        steps:      length of the runs.
        lr:         learning rate of each lane in the last step.
        curves:     (lane, bank) → points of the curve of a run up to here.
        initial:    makes a network of the same lanes as it was before the first step.
        batches:    the training batches; None after the end of a run.
        tests:      bank → lane → test metrics that were measured at this step; empty if none were.
        activity:   what the pass over images collected: layer → collector, for the probe that reads now.
    """

    spec: RunSpec
    network: Network
    assignment: LaneAssignment
    dataset: Dataset
    step: int
    steps: int
    lr: Sequence[float]
    curves: Mapping[tuple[int, int], Sequence[Metrics]]
    initial: Callable[[], Network]
    batches: Batches | None = None
    tests: Sequence[Sequence[Metrics]] = ()
    activity: Mapping[str, Any] = field(default_factory=dict)

    @property
    def lanes(self) -> int:
        """K."""
        return self.network.lanes

    def weights(self) -> dict[str, Tensor]:
        """Stored weights of the convolutions and linear layers by layer, each as (K, values)."""
        return weights(self.network)


def weights(network: Network) -> dict[str, Tensor]:
    """Stored weights of a network's convolutions and linear layers by layer, each as (K, values)."""
    roles = network.roles()
    return {
        layer_of(name): p.detach().unflatten(0, (network.lanes, -1)).flatten(1)
        for name, p in network.named_parameters()
        if roles[name] == "weight"
    }


def layer_of(weight: str) -> str:
    """The name of a layer from that of its weight.

    >>> layer_of("body.conv1.weight")
    'conv1'
    """
    return weight.removeprefix("body.").removesuffix(".weight")


class Probe(ABC):
    """Base of all probes.

    Args:
        argument: the text behind @ of the request; empty for the default.

    Attributes:
        per_bank: whether the runs of one lane differ in what the probe finds.
        averages: whether the metric of a run is the mean over its readings; else it is the last reading.
        cheap:    whether it belongs to those that together cost about a tenth of a short run.
    """

    per_bank: ClassVar[bool] = False
    averages: ClassVar[bool] = False
    cheap: ClassVar[bool] = True

    def __init__(self, argument: str = "") -> None:
        self.argument = argument

    @abstractmethod
    def read(self, point: Point, bank: int) -> Reading:
        """Read a stack; `bank` says whose running statistics, if `per_bank`.

        May change the tensors of the network, but not of the optimizer: they are put back.
        """

    def check(self, network: Network, image: Shape) -> None:  # noqa: B027 (most fit every network)
        """Refuse a network that the probe, or its argument, does not fit.

        Args:
            network: of one run, with weights of 1.
            image:   the network's input.

        Raises:
            InputError: it does not fit.
        """


class ActivationProbe(Probe):
    """Base of probes of the values that layers are given or return, see `engine.probes.images`.

    Attributes:
        at: where it listens: the "input" or "output" of the norms, by site; or the output of "activation"
            layers, by the names act1, act2, …
    """

    at: ClassVar[str]

    @abstractmethod
    def collector(self, lanes: int) -> Callable[[Tensor], None]:
        """What takes in the values of one layer, (N, K·C, *spatial) at a call; handed back in `activity`."""


def per_lane(values: Tensor) -> list[float]:
    """A tensor of K numbers as a list."""
    result: list[float] = values.tolist()
    return result


def mean_and_max(by_layer: Mapping[str, Tensor], lanes: int) -> tuple[list[float | None], list[float | None]]:
    """Mean and maximum over layers of K numbers each; None for every lane if there is no layer."""
    if not by_layer:
        return [None] * lanes, [None] * lanes
    values = torch.stack(list(by_layer.values()))
    return values.mean(0).tolist(), values.amax(0).tolist()


def split_lanes(by_layer: Mapping[str, Tensor], lanes: int) -> list[ByLayer]:
    """Layer → tensor (K, …) as one mapping per lane, of plain numbers and lists."""
    plain = {layer: values.tolist() for layer, values in by_layer.items()}
    return [{layer: values[lane] for layer, values in plain.items()} for lane in range(lanes)]
