"""The network of a stack before its first step. It follows from the runs and their data."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from normbench import models
from normbench.data.batches import Batches
from normbench.data.dataset import Dataset
from normbench.engine import starting_state
from normbench.engine.device import STORAGE
from normbench.engine.lane_assignment import LaneAssignment
from normbench.engine.stack import training_batches
from normbench.models import Network, lsuv
from normbench.spec import RunSpec


def initial_network(lanes: Sequence[RunSpec], dataset: Dataset) -> Network:
    """A network of these lanes as it was before the first step, in the default layout.

    Args:
        lanes:   one run per lane.
        dataset: on the device, its images fitted to the model.
    """
    spec, width = lanes[0], STORAGE[lanes[0].engine.precision]
    network = models.build(lanes, dataset.shape).to(dataset.train_images.device, width)
    batches = training_batches(lanes, dataset, channels_last=False)
    scale_by_first_images(network, spec, batches, spec.length(len(dataset.train_labels)))
    starting_state.load(network, LaneAssignment(lanes))
    return network


def scale_by_first_images(network: Network, spec: RunSpec, batches: Batches, steps: int) -> None:
    """Scale the weights of a new network if its initialisation reads images: `model.init=lsuv`."""
    if spec.model.init == "lsuv":
        network.begin_step(0, steps)
        lsuv.equalize(network, first_images(batches, lsuv.IMAGES, spec.total), network.lanes)


def first_images(batches: Batches, least: int, total: int) -> torch.Tensor:
    """The images of the first steps as one batch: `least` of them or a few more, at most one epoch's."""
    steps = min(-(-least // total), batches.steps_per_epoch)
    return torch.cat([batches.at(step)[0] for step in range(steps)])
