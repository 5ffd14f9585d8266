"""The state of one lane apart from its stack, so that a run can go on in another stack than it began in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from normbench.engine.meters import Meters
from normbench.engine.optim import Optimizer
from normbench.models import Network

LaneState = dict[str, Any]


def tensors(network: Network, optimizer: Optimizer, meters: Meters) -> dict[str, Tensor]:
    """Every tensor that training changes, by name, lane-major."""
    return {
        **network.state_dict(),
        **{f"optim/{name}": t for name, t in optimizer.state().items()},
        "sound": meters.sound,
        "sound_steps": meters.sound_steps,
    }


def save_lanes(
    network: Network, optimizer: Optimizer, meters: Meters, step: int, histories: Sequence[Sequence[Any]]
) -> list[LaneState]:
    """One state per lane: plain containers and tensors, safe to load without executing code."""
    whole = {name: _lanes(t, network.lanes) for name, t in tensors(network, optimizer, meters).items()}
    return [
        {
            "step": step,
            "history": list(histories[k]),
            "tensors": {name: t[k].cpu().clone() for name, t in whole.items()},
        }
        for k in range(network.lanes)
    ]


@torch.no_grad()
def load_lanes(network: Network, optimizer: Optimizer, meters: Meters, states: Sequence[LaneState]) -> int:
    """Put lane states into a stack and return the step they stand at.

    Raises:
        ValueError: the states do not fit this network or stand at different steps.
    """
    steps = {state["step"] for state in states}
    if len(steps) != 1:
        raise ValueError(f"lanes of one stack must stand at one step; got {sorted(steps)}")
    whole = tensors(network, optimizer, meters)
    for k, state in enumerate(states):
        if state["tensors"].keys() != whole.keys():
            raise ValueError("a checkpoint of another network")
        for name, t in whole.items():
            _lanes(t, network.lanes)[k].copy_(state["tensors"][name])
    (step,) = steps
    optimizer.resume(step)
    return int(step)


def _lanes(tensor: Tensor, lanes: int) -> Tensor:
    """View a lane-major tensor as (K, c, …); a scalar is the one lane's own."""
    return tensor.view(1, 1) if tensor.dim() == 0 else tensor.unflatten(0, (lanes, -1))
