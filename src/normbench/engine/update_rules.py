"""Update rules of the optimisers, on views of a few lanes with equal settings.

Each rule is one call of torch's fused kernel, except for rmsprop, which has none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.adamw import adamw

from normbench.spec import OptimSpec

#: Optimiser → its state tensors per parameter, each shaped like the parameter.
SLOTS = {
    "sgd": ("momentum",),
    "adam": ("mean", "square"),
    "adamw": ("mean", "square"),
    "rmsprop": ("square", "momentum"),
}
#: Optimisers whose update depends on the number of updates before it.
COUNTING = ("adam", "adamw")


class Settings(NamedTuple):
    """The optimiser settings in which lanes may differ."""

    lr: float
    weight_decay: float
    momentum: float


@dataclass
class Block:
    """Consecutive lanes with the same settings, and views of their part of some parameters and states."""

    lanes: slice
    settings: Settings
    indices: list[int]  # of the parameters, in `Optimizer.parameters`
    parameters: list[Tensor]
    slots: dict[str, list[Tensor]]
    steps: list[Tensor]  # the step counters of COUNTING
    lr: Tensor | float = 0.0  # at this step; a tensor without axes, which a replayed step reads
    factor: float = 1.0  # of the learning rate, see `Optimizer.scale_lanes`
    all_lanes: bool = False  # of the stack


def update(block: Block, grads: list[Tensor], spec: OptimSpec) -> None:
    """Update the parameters and states of a block in place.

    Args:
        block: of lanes with equal settings.
        grads: one per parameter, in its shape and memory order; may be changed in place.
        spec:  the settings that all lanes share.
    """
    RULES[spec.name](block, grads, spec)


def _sgd(block: Block, grads: list[Tensor], spec: OptimSpec) -> None:
    """sutskever2013, in torch's form.

    PERF: torch.optim.sgd.sgd would sort the tensors by device and type in every step.
    """
    momentum = block.settings.momentum
    torch._fused_sgd_(
        block.parameters, grads, block.slots["momentum"] if momentum else [],
        weight_decay=block.settings.weight_decay, momentum=momentum, lr=block.lr, dampening=0.0,
        nesterov=bool(spec.nesterov), maximize=False, is_first_step=False,
    )  # fmt: skip


def _adam(block: Block, grads: list[Tensor], spec: OptimSpec) -> None:
    """kingma2015; weight decay is added to the gradient (L2)."""
    beta1, beta2 = spec.betas or (0.9, 0.999)
    adam(
        block.parameters, grads, block.slots["mean"], block.slots["square"], [], block.steps, fused=True,
        amsgrad=False, beta1=beta1, beta2=beta2, lr=block.lr, weight_decay=block.settings.weight_decay,
        eps=spec.eps or 1e-8, maximize=False,
    )  # fmt: skip


def _adamw(block: Block, grads: list[Tensor], spec: OptimSpec) -> None:
    """loshchilov2019."""
    beta1, beta2 = spec.betas or (0.9, 0.999)
    adamw(
        block.parameters, grads, block.slots["mean"], block.slots["square"], [], block.steps, fused=True,
        amsgrad=False, beta1=beta1, beta2=beta2, lr=block.lr, weight_decay=block.settings.weight_decay,
        eps=spec.eps or 1e-8, maximize=False,
    )  # fmt: skip


def _rmsprop(block: Block, grads: list[Tensor], spec: OptimSpec) -> None:
    """tieleman2012, in torch's form, not centered:

        g ← g + decay · w;  v ← α v + (1 − α) g²;  b ← momentum · b + g / (√v + ε);  w ← w − lr · b

    torch's own function reads the learning rate on the host, which a CUDA graph cannot.
    """
    _, weight_decay, momentum = block.settings
    alpha, squares = 0.99 if spec.alpha is None else spec.alpha, block.slots["square"]
    if weight_decay:
        grads = list(torch._foreach_add(grads, block.parameters, alpha=weight_decay))
    torch._foreach_mul_(squares, alpha)
    torch._foreach_addcmul_(squares, grads, grads, 1 - alpha)
    roots = torch._foreach_sqrt(squares)
    torch._foreach_add_(roots, spec.eps or 1e-8)
    change = list(torch._foreach_div(grads, roots))
    if momentum:
        moved = block.slots["momentum"]
        torch._foreach_mul_(moved, momentum)
        torch._foreach_add_(moved, change)
        change = moved
    torch._foreach_sub_(block.parameters, torch._foreach_mul(change, block.lr))


#: Optimiser → its update of a block, with gradients of the block's parameters.
RULES: dict[str, Callable[[Block, list[Tensor], OptimSpec], None]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
    "rmsprop": _rmsprop,
}
