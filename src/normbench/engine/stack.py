"""A stack that is ready to train: K runs as one network, with data, optimiser and meters."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from normbench import models
from normbench.data.batches import Batches
from normbench.data.dataset import Dataset
from normbench.engine.device import STORAGE
from normbench.engine.lane_assignment import LaneAssignment
from normbench.engine.meters import Meters
from normbench.engine.optim import Optimizer
from normbench.engine.partners import Partners
from normbench.engine.stack_layout import StackLayout, default_layout
from normbench.engine.step import Step
from normbench.models.trained import gammas
from normbench.ranks import ALONE, Ranks
from normbench.spec import RunSpec


class Stack:
    """The network of some runs on a device, with their batches, optimiser, meters and training step.

    Close it before the next stack is built, or use it as a context manager. Otherwise both are in memory at
    the same time: a CUDA graph and its step refer to each other.

    Args:
        specs:   the runs, equal outside lane fields; a lone run is a stack of one. Runs that differ only in
                 the momentum of statistics that training never reads share a lane.
        dataset: on the device, its images fitted to the model.
        device:  of the network and of all tensors.
        layout:  memory format and convolution algorithms; None: the defaults.
        together: the ranks that train the stack, each with its part of every step.

    Attributes:
        lanes: K.
        steps: length of the runs.
        step:  a call trains all lanes by one step.
    """

    def __init__(
        self,
        specs: Sequence[RunSpec],
        dataset: Dataset,
        device: torch.device,
        layout: StackLayout | None = None,
        together: Ranks = ALONE,
    ) -> None:
        self.spec, self.assignment = specs[0], LaneAssignment(specs)
        self.lanes = len(self.assignment.lanes)
        self.steps = self.spec.length(len(dataset.train_labels))
        self.layout = layout or default_layout(self.spec.engine, device)
        width = STORAGE[self.spec.engine.precision]
        self.network = models.build(self.assignment.lanes, dataset.shape)
        self.assignment.add_banks(self.network)
        self.layout.apply(self.network.to(device, width))
        self.network.share_statistics(self.spec.total // together.count)
        self.network.add_average(self.spec.optim.ema)
        self.optimizer = Optimizer(
            self.network.trained_parameters(),
            self.network.roles(),
            self.assignment.lanes,
            gammas(self.network),
        )
        # PERF: without convolutions, images in channels_last would be copied before the first product
        filters = any(parameter.dim() == 4 for parameter in self.network.parameters())
        channels_last = self.layout.memory_format == "channels_last" and filters
        self.batches = training_batches(self.assignment.lanes, dataset, channels_last=channels_last)
        self.meters = Meters(self.lanes, self.spec.total, device)
        self.partners = None if together.count == 1 else Partners(together, self.network)
        self.step = Step(
            self.spec, self.steps, self.network, self.optimizer, self.batches, self.meters, self.partners
        )

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Free what only the collector could free. No step can follow."""
        self.step.close()
        self.batches.close()


def training_batches(lanes: Sequence[RunSpec], dataset: Dataset, *, channels_last: bool) -> Batches:
    """The batches that a stack with these lanes, one run each, trains on."""
    spec = lanes[0]
    return Batches(
        dataset, [lane.seed for lane in lanes], spec.total, flip=spec.data.flip, crop=spec.data.crop,
        channels_last=channels_last, dtype=STORAGE[spec.engine.precision],
        class_pure=spec.batch if spec.data.sampling == "class_pure" else 0,
    )  # fmt: skip
