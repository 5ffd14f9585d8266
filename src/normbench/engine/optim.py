"""Optimisers over stacked parameters: torch's fused kernels, once per block of lanes with equal settings.

Lanes with equal learning rate, weight decay and momentum lie side by side in most sweeps, so a step is two
kernel calls: one for the parameters that decay, one for those that do not; Fixup's scalars, which learn more
slowly, add a third.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from normbench.engine.scaling import LossScale
from normbench.errors import unknown
from normbench.spec import OptimSpec, RunSpec

#: State tensors per parameter, by optimiser; each is shaped like its parameter.
SLOTS = {"sgd": ("momentum",), "adamw": ("mean", "square")}
#: Shares of the learning rate by role, where they are not 1: zhang2019b's code for its scalars.
RATES = {"scalar": 0.1}


class Settings(NamedTuple):
    """What lanes may differ in."""

    lr: float
    weight_decay: float
    momentum: float


@dataclass
class Block:
    """Consecutive lanes with the same settings, and their slices of the parameters of one kind."""

    lanes: slice
    settings: Settings
    indices: list[int]  # of the parameters, in the optimiser's order
    parameters: list[Tensor]
    slots: dict[str, list[Tensor]]
    steps: list[Tensor]  # AdamW's step counters
    lr: float | Tensor = 0.0  # in force; a tensor where steps are replayed as a graph


class Optimizer:
    """SGD (sutskever2013 as torch writes it) or AdamW (loshchilov2019), with per-lane settings and clipping.

    Args:
        parameters: by name, lane-major.
        roles:      for every name, see `Network.roles`; `decay: weights` spares all but weights, and roles in
                    RATES learn at another rate.
        specs:      the K runs.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], roles: Mapping[str, str], specs: Sequence[RunSpec]
    ) -> None:
        self.kind: OptimSpec = specs[0].optim
        if self.kind.name not in SLOTS:
            raise unknown("optimiser", self.kind.name, SLOTS)
        self.parameters = list(parameters.values())
        self.names = list(parameters)
        self.lanes = len(specs)
        self.orders = [memory_order(p) for p in self.parameters]
        self.slots = {
            slot: [torch.zeros_like(p, memory_format=torch.preserve_format) for p in self.parameters]
            for slot in SLOTS[self.kind.name]
        }
        self.steps_taken = torch.zeros((), device=self.parameters[0].device)
        self.blocks = self._blocks([roles[name] for name in self.names], specs)
        self.rates = torch.tensor(
            [block.settings.lr for block in self.blocks], device=self.steps_taken.device
        )
        self.lr = self.rates.clone()
        self.begin_step(1.0)

    def _blocks(self, roles: list[str], specs: Sequence[RunSpec]) -> list[Block]:
        kinds = [(self.kind.decay == "all" or role == "weight", RATES.get(role, 1.0)) for role in roles]
        blocks = []
        for decays, rate in sorted(set(kinds), reverse=True):
            chosen = [i for i, kind in enumerate(kinds) if kind == (decays, rate)]
            settings = [
                Settings(rate * s.lr, s.optim.weight_decay if decays else 0.0, s.optim.momentum or 0.0)
                for s in specs
            ]
            for shared, members in groupby(range(self.lanes), key=settings.__getitem__):
                run = list(members)
                lanes = slice(run[0], run[-1] + 1)
                blocks.append(
                    Block(
                        lanes,
                        shared,
                        chosen,
                        [self._of(i, self.parameters[i].detach(), lanes) for i in chosen],
                        {
                            slot: [self._of(i, tensors[i], lanes) for i in chosen]
                            for slot, tensors in self.slots.items()
                        },
                        [self.steps_taken.clone() for _ in chosen],
                    )
                )
        return blocks

    def _of(self, index: int, tensor: Tensor, lanes: slice) -> Tensor:
        """What belongs to some lanes of a tensor that lies in memory as parameter `index`: a view."""
        order = self.orders[index]
        dense = tensor if order == tuple(range(len(order))) else tensor.permute(order)
        part: Tensor = dense if lanes == slice(0, self.lanes) else dense.unflatten(0, (self.lanes, -1))[lanes]
        return part

    def begin_step(self, multiplier: float) -> None:
        """Set the schedule's share of every lane's learning rate."""
        if self.lr.is_cpu:
            for block in self.blocks:
                block.lr = block.settings.lr * multiplier
            return
        torch.mul(self.rates, multiplier, out=self.lr)
        for block, lr in zip(self.blocks, self.lr, strict=True):
            block.lr = lr

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], scale: LossScale | None = None) -> None:
        """Update all parameters in place, at the rates of `begin_step`.

        Args:
            gradients: one per parameter, in its shape.
            scale:     what the losses were multiplied with; a lane whose gradients overflowed stays as it is.
        """
        # NUMERICS: the kernels walk memory, so a gradient must lie in it as its parameter does
        grads = [
            g if g.stride() == p.stride() else torch.empty_like(p).copy_(g)
            for g, p in zip(gradients, self.parameters, strict=True)
        ]
        finite = None if scale is None else scale.undo(grads)
        if self.kind.clip != "none":
            self._clip(grads, self.kind.clip)
        with nullcontext() if finite is None else self._sparing(finite):
            for block in self.blocks:
                self._update(block, [self._of(i, grads[i], block.lanes) for i in block.indices])
        self.steps_taken += 1

    @contextmanager
    def _sparing(self, chosen: Tensor) -> Iterator[None]:
        """Let an update change the chosen lanes only, (K,)."""
        changed = [*self.parameters, *self.state().values()]
        before = [tensor.clone() for tensor in changed]
        yield
        for tensor, old in zip(changed, before, strict=True):
            now, then = (t.unflatten(0, (self.lanes, -1)) for t in (tensor, old))
            now.copy_(torch.where(chosen.view(-1, *(1,) * (now.dim() - 1)), now, then))

    def _update(self, block: Block, grads: list[Tensor]) -> None:
        _, weight_decay, momentum = block.settings
        if self.kind.name == "sgd":
            buffers: list[Tensor | None] = [*block.slots["momentum"]] if momentum else [None] * len(grads)
            sgd(
                block.parameters, grads, buffers, fused=True, weight_decay=weight_decay, momentum=momentum,
                lr=block.lr, dampening=0.0, nesterov=bool(self.kind.nesterov), maximize=False,
            )  # fmt: skip
            return
        beta1, beta2 = self.kind.betas or (0.9, 0.999)
        adamw(
            block.parameters, grads, block.slots["mean"], block.slots["square"], [], block.steps, fused=True,
            amsgrad=False, beta1=beta1, beta2=beta2, lr=block.lr, weight_decay=weight_decay,
            eps=self.kind.eps or 1e-8, maximize=False,
        )  # fmt: skip

    def _clip(self, grads: list[Tensor], largest: float) -> None:
        """Scale the gradient of every lane whose norm exceeds `largest` down to it; lanes do not see each
        other.
        """
        per_lane = [g.unflatten(0, (self.lanes, -1)) for g in grads]
        squares = torch.stack([g.flatten(1).square().sum(1) for g in per_lane]).sum(0)  # (K,)
        factor = (largest / (squares.sqrt() + 1e-6)).clamp(max=1.0)
        for g in per_lane:
            g.mul_(factor.view(-1, *(1,) * (g.dim() - 1)))

    def state(self) -> dict[str, Tensor]:
        """Every state tensor by `slot/parameter`, lane-major."""
        return {
            f"{slot}/{name}": t
            for slot, tensors in self.slots.items()
            for name, t in zip(self.names, tensors, strict=True)
        }

    def tensors(self) -> list[Tensor]:
        """What a step changes besides the parameters."""
        counters = [counter for block in self.blocks for counter in block.steps]
        return [*self.state().values(), self.steps_taken, *counters]

    def resume(self, step: int) -> None:
        """Set the step counters; the state tensors have been filled through `state`."""
        self.steps_taken.fill_(step)
        for block in self.blocks:
            for counter in block.steps:
                counter.fill_(step)


def memory_order(tensor: Tensor) -> tuple[int, ...]:
    """The axes from the slowest to the fastest in memory.

    PERF: torch's fused CPU kernels copy what is not contiguous.

    >>> memory_order(torch.zeros(8, 3, 5, 5).contiguous(memory_format=torch.channels_last))
    (0, 2, 3, 1)
    """
    return tuple(sorted(range(tensor.dim()), key=lambda axis: -tensor.stride()[axis]))
