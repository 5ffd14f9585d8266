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
    histories: Sequence[Sequence[Any]], diagnostics: Sequence[Any] = (),
) -> list[LaneState]:  # fmt: skip
    """One state per run, made of plain containers and tensors, so that loading it executes no code.

    It has the statistics of the run's own bank, under the names of a lone run.
    """
    runs = split(tensors(network, optimizer, meters), assignment)
    found = diagnostics or [{} for _ in histories]
    return [
        {"step": step, "history": list(history), "diagnostics": of_run, "tensors": own}
        for own, history, of_run in zip(runs, histories, found, strict=True)
    ]


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
    fill(tensors(network, optimizer, meters), assignment, [state["tensors"] for state in states])
    (step,) = steps
    optimizer.resume(step)
    return int(step)


def split(whole: Mapping[str, Tensor], assignment: LaneAssignment) -> list[dict[str, Tensor]]:
    """Copies of each run's part of the tensors of a stack, on the CPU, in the order of the runs.

    PERF: whole tensors leave the device, not thousands of small pieces.
    """
    whole = {name: tensor.cpu() for name, tensor in whole.items()}
    return [
        {name: part.clone() for name, part in of_run(whole, assignment, lane, bank).items()}
        for lane, bank in assignment.of
    ]


@torch.no_grad()
def fill(
    whole: Mapping[str, Tensor], assignment: LaneAssignment, states: Sequence[Mapping[str, Tensor]]
) -> None:
    """Copy the tensors of each run into the tensors of a stack: the inverse of `split`.

    Raises:
        ValueError: a state belongs to another network.
    """
    for (lane, bank), state in zip(assignment.of, states, strict=True):
        own = of_run(whole, assignment, lane, bank)
        if state.keys() != own.keys():
            raise ValueError("the state belongs to another network")
        for name, part in own.items():
            if part.shape != state[name].shape:
                raise ValueError(f"the state belongs to another network: {name} has another shape")
            part.copy_(state[name])


def of_run(
    whole: Mapping[str, Tensor], assignment: LaneAssignment, lane: int, bank: int
) -> dict[str, Tensor]:
    """Views of the tensors of a run: those of its lane, with the statistics of its bank."""
    lanes = len(assignment.lanes)
    return {name: _lane_of(t, lanes, lane) for name, t in _with_bank(whole, bank).items()}


def _with_bank(whole: Mapping[str, Tensor], bank: int) -> dict[str, Tensor]:
    """The tensors of a stack, with the statistics of a bank in place of those of bank 0."""
    own = {name: t for name, t in whole.items() if ".banks." not in name}
    if bank == 0:
        return own
    banked = {name.replace(".banks.", "."): t[bank - 1] for name, t in whole.items() if ".banks." in name}
    return own | {name: t.view(own[name].shape) for name, t in banked.items()}


def _lane_of(tensor: Tensor, lanes: int, lane: int) -> Tensor:
    """One of the K lanes of a lane-major tensor: a view (c, …)."""
    return tensor.view(1) if tensor.dim() == 0 else tensor.unflatten(0, (lanes, -1))[lane]
