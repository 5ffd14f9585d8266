"""More metrics of runs that have ended, computed from their final states without training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from normbench import models
from normbench.conditions import Condition
from normbench.data.dataset import Dataset
from normbench.engine.device import STORAGE, numerics
from normbench.engine.final_state import load_final_states
from normbench.engine.lane_assignment import LaneAssignment
from normbench.engine.stack_layout import StackLayout, default_layout
from normbench.engine.tally import Measured
from normbench.engine.validation import evaluate_splits
from normbench.models import Network
from normbench.spec import RunSpec


def evaluate_again(
    specs: Sequence[RunSpec],
    states: Sequence[dict[str, Tensor]],
    dataset: Dataset,
    device: torch.device,
    conditions: Sequence[Condition],
    metrics: Sequence[str] = (),
    layout: StackLayout | None = None,
) -> list[Measured]:
    """Evaluate runs as one network, as at the end of their training.

    In a stack of the same runs with the same layout, the metrics have the bits of an evaluation in training.

    Args:
        specs:   the runs, equal outside lane fields.
        states:  their final states, in the order of specs.
        dataset: on the device, its images fitted to the model.
        conditions: sources of statistics and corruptions, see `engine.evaluate`.
        metrics: names of further metrics, see `engine.quality`.
        layout:  memory format and convolution algorithms; None: the defaults.

    Raises:
        ValueError: a state belongs to another network.
    """
    spec = specs[0]
    with numerics(spec.engine, device):
        network, assignment = restored(specs, states, dataset, device, layout)
        measured = evaluate_splits(network, dataset, spec, conditions, assignment.banks, metrics)
    return [measured[bank][lane] for lane, bank in assignment.of]


def restored(
    specs: Sequence[RunSpec],
    states: Sequence[dict[str, Tensor]],
    dataset: Dataset,
    device: torch.device,
    layout: StackLayout | None = None,
) -> tuple[Network, LaneAssignment]:
    """The network of runs as their last step left it, and which lane and bank belongs to which run; arguments
    as for `evaluate_again`.

    Raises:
        ValueError: a state is of another network.
    """
    spec, assignment = specs[0], LaneAssignment(specs)
    steps = spec.length(len(dataset.train_labels))
    network = models.build(assignment.lanes, dataset.shape, dry=True)
    assignment.add_banks(network)
    (layout or default_layout(spec.engine, device)).apply(network.to(device, STORAGE[spec.engine.precision]))
    network.add_average(spec.optim.ema)
    load_final_states(network, assignment, states)
    network.begin_step(steps - 1, steps)
    return network, assignment
