"""Update rules of the optimisers on all lanes at once, if their settings differ.

On a GPU every call starts a kernel, so 64 learning rates must not be 64 calls. torch's fused kernels take one
learning rate, in fp32. Here each parameter has a tensor of its shape with the setting of the lane of each
number. Each line is one call for all parameters.

Settings that all lanes share are numbers. The formulas are those of `update_rules`, in torch's order of
operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from normbench.engine.update_rules import Settings
from normbench.spec import OptimSpec

#: One number that all lanes share, or one tensor per parameter, in its shape and memory order.
PerLane = float | list[Tensor]


class Spread:
    """Gives every number of some parameters the value of its lane, in one kernel.

    Args:
        parameters: views in memory order, lane-major, on one device.
        lanes:      K.
    """

    def __init__(self, parameters: Sequence[Tensor], lanes: int) -> None:
        self.shapes, self.sizes = [p.shape for p in parameters], [p.numel() for p in parameters]
        lane = torch.arange(lanes, dtype=torch.int32)
        each = [lane.repeat_interleave(size // lanes) for size in self.sizes]
        self._lane = torch.cat(each).to(parameters[0].device)
        self._dtype = parameters[0].dtype

    def __call__(self, values: Tensor) -> list[Tensor]:
        """One tensor per parameter from (K,) values, in the dtype of the parameters."""
        spread = values.to(self._dtype).index_select(0, self._lane)
        return [t.view(shape) for t, shape in zip(spread.split(self.sizes), self.shapes, strict=True)]


@dataclass
class LaneBlock:
    """All lanes of some parameters, with the settings of every lane.

    Attributes:
        indices:      of the parameters, in `Optimizer.parameters`.
        parameters:   views in memory order; likewise the states in `slots`.
        rates:        learning rate of every lane without schedule: (K,) fp64.
        lr:           learning rate of every lane at this step: (K,) fp64; a CUDA graph reads it.
        weight_decay: of every lane.
        momentum:     of every lane.
    """

    indices: list[int]
    parameters: list[Tensor]
    slots: dict[str, list[Tensor]]
    rates: Tensor
    lr: Tensor
    weight_decay: PerLane
    momentum: PerLane
    spread: Spread


def lane_block(
    indices: list[int], parameters: list[Tensor], slots: dict[str, list[Tensor]], settings: Sequence[Settings]
) -> LaneBlock:
    """A block of all lanes, from the settings of each."""
    spread = Spread(parameters, len(settings))
    device = parameters[0].device

    def by_lane(values: Sequence[float]) -> PerLane:
        if len(set(values)) == 1:
            return values[0]
        return spread(torch.tensor(values, dtype=torch.float64, device=device))

    rates = torch.tensor([each.lr for each in settings], dtype=torch.float64, device=device)
    decay, momentum = by_lane([s.weight_decay for s in settings]), by_lane([s.momentum for s in settings])
    return LaneBlock(indices, parameters, slots, rates, rates.clone(), decay, momentum, spread)


def update_lanes(block: LaneBlock, grads: list[Tensor], spec: OptimSpec, updates: Tensor) -> None:
    """Update the parameters and states of a block in place.

    Args:
        block:   of all lanes.
        grads:   one per parameter, in its shape and memory order.
        spec:    the settings that all lanes share.
        updates: the updates of each lane before this one: (K,).
    """
    RULES[spec.name](block, grads, spec, updates)


def _sgd(block: LaneBlock, grads: list[Tensor], spec: OptimSpec, updates: Tensor) -> None:
    grads = _sum(grads, block.parameters, block.weight_decay)
    if block.momentum != 0:
        moved = block.slots["momentum"]
        _scale(moved, block.momentum)
        torch._foreach_add_(moved, grads)
        grads = _sum(grads, moved, block.momentum) if spec.nesterov else moved
    torch._foreach_addcmul_(block.parameters, grads, block.spread(block.lr), value=-1)


def _adam(block: LaneBlock, grads: list[Tensor], spec: OptimSpec, updates: Tensor) -> None:
    grads = _sum(grads, block.parameters, block.weight_decay)
    _by_moments(block, grads, spec, updates)


def _adamw(block: LaneBlock, grads: list[Tensor], spec: OptimSpec, updates: Tensor) -> None:
    if block.weight_decay != 0:
        shrunk = [p.clone() for p in block.parameters]
        _scale(shrunk, block.weight_decay)
        torch._foreach_addcmul_(block.parameters, shrunk, block.spread(block.lr), value=-1)
    _by_moments(block, grads, spec, updates)


def _by_moments(block: LaneBlock, grads: list[Tensor], spec: OptimSpec, updates: Tensor) -> None:
    """w ← w − lr / (1 − β₁^t) · m / (√v / √(1 − β₂^t) + ε), t counted per lane."""
    beta1, beta2 = spec.betas or (0.9, 0.999)
    t = updates.double() + 1
    means, squares = block.slots["mean"], block.slots["square"]
    torch._foreach_lerp_(means, grads, 1 - beta1)
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
    roots = torch._foreach_sqrt(squares)
    torch._foreach_div_(roots, block.spread((1 - beta2**t).sqrt()))
    torch._foreach_add_(roots, spec.eps or 1e-8)
    change = torch._foreach_div(means, roots)
    torch._foreach_addcmul_(block.parameters, change, block.spread(block.lr / (1 - beta1**t)), value=-1)


def _rmsprop(block: LaneBlock, grads: list[Tensor], spec: OptimSpec, updates: Tensor) -> None:
    alpha, squares = 0.99 if spec.alpha is None else spec.alpha, block.slots["square"]
    grads = _sum(grads, block.parameters, block.weight_decay)
    torch._foreach_mul_(squares, alpha)
    torch._foreach_addcmul_(squares, grads, grads, 1 - alpha)
    roots = torch._foreach_sqrt(squares)
    torch._foreach_add_(roots, spec.eps or 1e-8)
    change = list(torch._foreach_div(grads, roots))
    if block.momentum != 0:
        moved = block.slots["momentum"]
        _scale(moved, block.momentum)
        torch._foreach_add_(moved, change)
        change = moved
    torch._foreach_sub_(block.parameters, torch._foreach_mul(change, block.spread(block.lr)))


def _sum(tensors: list[Tensor], others: list[Tensor], factor: PerLane) -> list[Tensor]:
    """tensors + factor · others. Not in place: autograd can give two parameters the same gradient."""
    if isinstance(factor, list):
        return list(torch._foreach_addcmul(tensors, others, factor))
    return list(torch._foreach_add(tensors, others, alpha=factor)) if factor else tensors


def _scale(tensors: list[Tensor], factor: PerLane) -> None:
    """tensors *= factor, in place."""
    torch._foreach_mul_(tensors, factor)


#: Optimiser → its update of a block, with gradients of the block's parameters.
RULES: dict[str, Callable[[LaneBlock, list[Tensor], OptimSpec, Tensor], None]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
    "rmsprop": _rmsprop,
}
