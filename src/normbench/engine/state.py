"""The state of one run, independent of its stack: a run can resume in another stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from normbench.engine.lane_assignment import LaneAssignment
from normbench.engine.meters import Meters
from normbench.engine.optim import Optimizer
from normbench.models import Network

LaneState = dict[str, Any]


def tensors(network: Network, optimizer: Optimizer, meters: Meters) -> dict[str, Tensor]:
    """Every tensor that training changes, by name, lane-major."""
    return {
        **network.state_dict(),
        **{f"optim/{name}": t for name, t in optimizer.state().items()},
        "finite": meters.finite,
        "finite_steps": meters.finite_steps,
    }


def save_lanes(
    network: Network, optimizer: Optimizer, meters: Meters, assignment: LaneAssignment, step: int,
    histories: Sequence[Sequence[Any]],
) -> list[LaneState]:  # fmt: skip
    """One state per run, made of plain containers and tensors, so that loading it executes no code.

    It has the statistics of the run's own bank, under the names of a lone run.
    """
    whole = tensors(network, optimizer, meters)
    states = []
    for (lane, bank), history in zip(assignment.of, histories, strict=True):
        own = {n: lane_of(t, network.lanes, lane).cpu().clone() for n, t in with_bank(whole, bank).items()}
        states.append({"step": step, "history": list(history), "tensors": own})
    return states


@torch.no_grad()
def load_lanes(
    network: Network,
    optimizer: Optimizer,
    meters: Meters,
    assignment: LaneAssignment,
    states: Sequence[LaneState],
) -> int:
    """Copy the states of the runs into a stack, and return the number of finished steps.

    Raises:
        ValueError: the states belong to another network or to different steps.
    """
    steps = {state["step"] for state in states}
    if len(steps) != 1:
        raise ValueError(f"lanes of one stack must resume at one step; got {sorted(steps)}")
    whole = tensors(network, optimizer, meters)
    for (lane, bank), state in zip(assignment.of, states, strict=True):
        mine = with_bank(whole, bank)
        if state["tensors"].keys() != mine.keys():
            raise ValueError("the checkpoint belongs to another network")
        for name, t in mine.items():
            lane_of(t, network.lanes, lane).copy_(state["tensors"][name])
    (step,) = steps
    optimizer.resume(step)
    return int(step)


def with_bank(whole: Mapping[str, Tensor], bank: int) -> dict[str, Tensor]:
    """The tensors of a run: those of its lane, with the statistics of its bank."""
    own = {name: t for name, t in whole.items() if ".banks." not in name}
    if bank == 0:
        return own
    banked = {name.replace(".banks.", "."): t[bank - 1] for name, t in whole.items() if ".banks." in name}
    return own | {name: t.view(own[name].shape) for name, t in banked.items()}


def lane_of(tensor: Tensor, lanes: int, lane: int) -> Tensor:
    """One of the K lanes of a lane-major tensor: a view (c, …)."""
    return tensor.view(1) if tensor.dim() == 0 else tensor.unflatten(0, (lanes, -1))[lane]
