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


class UnfitState(ValueError):
    """States that belong to another network. `positions`: of the runs, in the order of the stack."""

    def __init__(self, message: str, positions: Sequence[int]) -> None:
        super().__init__(message)
        self.positions = tuple(positions)


def tensors(network: Network, optimizer: Optimizer, meters: Meters) -> dict[str, Tensor]:
    """Every tensor that training changes, by name, lane-major."""
    return {
        **network.state_dict(),
        **{f"optim/{name}": t for name, t in optimizer.state().items()},
        "loss": meters.loss,
        "errors": meters.errors,
        "finite": meters.finite,
        "finite_steps": meters.finite_steps,
    }


def save_lanes(
    network: Network, optimizer: Optimizer, meters: Meters, assignment: LaneAssignment, step: int,
    histories: Sequence[Sequence[Any]], diagnostics: Sequence[Any] = (),
) -> list[LaneState]:  # fmt: skip
    """One state per run, made of plain containers and tensors, so that loading it executes no code.

    It has the statistics of the run's own bank, under the names of a lone run. `counted` is the number of
    steps whose losses and errors the meters have summed since the last point of the curve.
    """
    runs = split(tensors(network, optimizer, meters), assignment)
    found = diagnostics or [{} for _ in histories]
    return [
        {
            "step": step, "counted": meters.steps, "history": list(history), "diagnostics": of_run,
            "tensors": own,
        }
        for own, history, of_run in zip(runs, histories, found, strict=True)
    ]  # fmt: skip


def load_lanes(
    network: Network,
    optimizer: Optimizer,
    meters: Meters,
    assignment: LaneAssignment,
    states: Sequence[LaneState],
) -> int:
    """Copy the states of the runs into a stack, and return the number of finished steps.

    Raises:
        ValueError: the states belong to different steps or to different points of the curve.
        UnfitState: some belong to another network. Nothing was copied.
    """
    steps = {(state["step"], state["counted"]) for state in states}
    if len(steps) != 1:
        raise ValueError(f"lanes of one stack must resume at one step; got {sorted(steps)}")
    fill(tensors(network, optimizer, meters), assignment, [state["tensors"] for state in states])
    ((step, meters.steps),) = steps
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
        UnfitState: some states belong to another network. Nothing was copied.
    """
    own = [of_run(whole, assignment, lane, bank) for lane, bank in assignment.of]
    faults = [_fault(each, state) for each, state in zip(own, states, strict=True)]
    if unfit := [position for position, fault in enumerate(faults) if fault is not None]:
        raise UnfitState(f"the state belongs to another network{faults[unfit[0]]}", unfit)
    for (lane, bank), state in zip(assignment.of, states, strict=True):
        for name, part in of_run(whole, assignment, lane, bank).items():
            part.copy_(state[name])


def _fault(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str | None:
    """What a state has that its run has not, as the end of a sentence; None if it fits."""
    if state.keys() != own.keys():
        return ""
    for name, part in own.items():
        if not isinstance(state[name], Tensor) or part.shape != state[name].shape:
            return f": {name} has another shape"
        if part.dtype != state[name].dtype:
            return f": {name} has another type of number"
    return None


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
