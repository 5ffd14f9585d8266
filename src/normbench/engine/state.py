"""The state of one run apart from its stack, so that it can go on in another stack than it began in."""

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
    """One state per run: plain containers and tensors, safe to load without executing code.

    It holds the statistics of the run's own bank, under the names that they have in a run alone.
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
    """Put the states of the runs into a stack and return the step they stand at.

    Raises:
        ValueError: the states do not fit this network or stand at different steps.
    """
    steps = {state["step"] for state in states}
    if len(steps) != 1:
        raise ValueError(f"lanes of one stack must stand at one step; got {sorted(steps)}")
    whole = tensors(network, optimizer, meters)
    for (lane, bank), state in zip(assignment.of, states, strict=True):
        mine = with_bank(whole, bank)
        if state["tensors"].keys() != mine.keys():
            raise ValueError("a checkpoint of another network")
        for name, t in mine.items():
            lane_of(t, network.lanes, lane).copy_(state["tensors"][name])
    (step,) = steps
    optimizer.resume(step)
    return int(step)


def with_bank(whole: Mapping[str, Tensor], bank: int) -> dict[str, Tensor]:
    """The tensors of a run: the statistics of its bank stand in place of the lane's own."""
    own = {name: t for name, t in whole.items() if ".banks." not in name}
    if bank == 0:
        return own
    lent = {name.replace(".banks.", "."): t[bank - 1] for name, t in whole.items() if ".banks." in name}
    return own | {name: t.view(own[name].shape) for name, t in lent.items()}


def lane_of(tensor: Tensor, lanes: int, lane: int) -> Tensor:
    """The part of a lane-major tensor that belongs to one of K lanes: a view (c, …)."""
    return tensor.view(1) if tensor.dim() == 0 else tensor.unflatten(0, (lanes, -1))[lane]
