"""Diagnostics of runs that have ended, from their final states and curves and without training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from normbench.data.dataset import Dataset
from normbench.diagnostics import Diagnostic
from normbench.engine.device import numerics
from normbench.engine.evaluate import Metrics
from normbench.engine.evaluate_again import restored
from normbench.engine.initial_state import initial_network
from normbench.engine.probes.diagnosis import Row, read
from normbench.engine.probes.protocol import Point
from normbench.engine.probes.registry import probe_of
from normbench.engine.stack_layout import StackLayout
from normbench.spec import RunSpec


def diagnose_again(
    specs: Sequence[RunSpec],
    states: Sequence[dict[str, Tensor]],
    curves: Sequence[Sequence[Metrics]],
    dataset: Dataset,
    device: torch.device,
    asked: Sequence[Diagnostic],
    layout: StackLayout | None = None,
) -> list[tuple[Metrics, list[Row]]]:
    """Read diagnostics of runs as one network, as at the end of their training.

    Args:
        specs:   the runs, equal outside lane fields.
        states:  their final states, in the order of specs.
        curves:  their curves, in the order of specs.
        dataset: on the device, its images fitted to the model.
        asked:   none that needs the training itself.
        layout:  memory layout and convolutions; None: the default ones.

    Returns:
        For every run its scalars, and its rows for diagnostics.jsonl.

    Raises:
        ValueError: a state is of another network.
    """
    spec = specs[0]
    steps = spec.length(len(dataset.train_labels))
    with numerics(spec.engine, device):
        network, assignment = restored(specs, states, dataset, device, layout)
        by_place = dict(zip(assignment.of, curves, strict=True))
        point = Point(
            spec=spec, network=network, assignment=assignment, dataset=dataset, step=steps, steps=steps,
            lr=[_last_rate(by_place[lane, 0]) for lane in range(network.lanes)], curves=by_place,
            initial=partial(initial_network, assignment.lanes, dataset),
        )  # fmt: skip
        return read(point, {each: probe_of(each) for each in asked})


def _last_rate(curve: Sequence[Metrics]) -> float:
    """Learning rate of the last step of a run; nan if its curve is lost."""
    rate = curve[-1].get("lr") if curve else None
    return float("nan") if rate is None else rate
