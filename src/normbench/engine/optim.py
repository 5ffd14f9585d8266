"""Optimisers of stacked parameters: one call of torch's fused kernel per block of lanes with equal settings.

In most sweeps all lanes have the same learning rate, weight decay and momentum. A step is then two kernel
calls: one for parameters with weight decay, one for those without. Fixup's scalars, which have a lower
learning rate, add a third. On a GPU, lanes with different settings are updated together (`per_lane_rules`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby

import torch
from torch import Tensor, nn

from normbench.engine.device import HALVES
from normbench.engine.per_lane_rules import LaneBlock, lane_block, update_lanes
from normbench.engine.scaling import LossScale
from normbench.engine.update_rules import COUNTING, SLOTS, Block, Settings, update
from normbench.errors import unknown
from normbench.spec import OptimSpec, RunSpec

#: Role → factor of the learning rate, if it is not 1. Scalars: as in the code of zhang2019b. Gates: as in the
#: code of nam2018.
LR_FACTORS = {"scalar": 0.1, "gate": 10.0}
#: Devices on which lanes with different settings are updated together. PERF: on a CPU a fused call per lane
#: is faster, and it has the bits of a lone run.
TOGETHER_ON = ("cuda",)


class Optimizer:
    """SGD, Adam, AdamW or RMSprop (`update_rules`), with settings and clipping per lane.

    Args:
        parameters: by name, lane-major.
        roles:      parameter name → role, see `Network.roles`. `optim.decay=weights` decays the role `weight`
                    only; LR_FACTORS gives some roles another learning rate.
        specs:      the K runs.
        gammas:     names of the parameters that `optim.gamma_l1` draws to 0: the γ of norms (liu2017, network
                    slimming). λ sign(γ) is part of their gradient, before clipping.

    Attributes:
        scale:   the factors of the losses of fp16, which `step` divides out; None for every other precision.
        updates: (K,), the updates of each lane, counted if losses are scaled or `lane_blocks` read it. A lane
                 whose gradients overflowed skips a step's update.

    Raises:
        InputError: an unknown optimiser; the nearest names are offered.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        roles: Mapping[str, str],
        specs: Sequence[RunSpec],
        gammas: Collection[str] = (),
    ) -> None:
        self.spec: OptimSpec = specs[0].optim
        if self.spec.name not in SLOTS:
            raise unknown("optimiser", self.spec.name, SLOTS)
        self.parameters = list(parameters.values())
        self.names = list(parameters)
        self.gammas = [i for i, name in enumerate(self.names) if self.spec.gamma_l1 and name in gammas]
        self.lanes = len(specs)
        self._lone = specs[0].schedule.name == "plateau"
        self._strides = [p.stride() for p in self.parameters]
        self._orders = [memory_order(p) for p in self.parameters]
        self.slots = {
            slot: [torch.zeros_like(p, memory_format=torch.preserve_format) for p in self.parameters]
            for slot in SLOTS[self.spec.name]
        }
        device = self.parameters[0].device
        narrow = HALVES.get(specs[0].engine.precision) == torch.float16
        self.scale = LossScale(self.lanes, device) if narrow else None
        self.updates = torch.zeros(self.lanes, device=device)
        self._factors: Tensor | None = None
        rules = list(self._rules([roles[name] for name in self.names], specs))
        self.lane_blocks: list[LaneBlock] = []
        self.blocks: list[Block] = []
        if device.type in TOGETHER_ON and self._differ([settings for _, settings in rules]):
            everywhere = slice(0, self.lanes)
            self.lane_blocks = [
                lane_block(indices, *self._parts(indices, everywhere), settings)
                for indices, settings in rules
            ]
        else:
            self.blocks = self._blocks(rules)
        # NUMERICS: a CPU kernel computes with the learning rate in fp64
        rate_type = torch.float64 if device.type == "cpu" else torch.float32
        self.rates = torch.tensor(
            [block.settings.lr for block in self.blocks], dtype=rate_type, device=device
        )
        self.lr = self.rates.clone()
        for block, lr in zip(self.blocks, self.lr, strict=True):
            block.lr = lr
        self.begin_step(1.0)

    def _rules(
        self, roles: list[str], specs: Sequence[RunSpec]
    ) -> Iterator[tuple[list[int], list[Settings]]]:
        """Parameters that are updated alike, with the settings of every lane."""
        rules = [(self.spec.decay == "all" or role == "weight", LR_FACTORS.get(role, 1.0)) for role in roles]
        for decays, factor in sorted(set(rules), reverse=True):
            indices = [i for i, rule in enumerate(rules) if rule == (decays, factor)]
            settings = [
                Settings(factor * s.lr, s.optim.weight_decay if decays else 0.0, s.optim.momentum or 0.0)
                for s in specs
            ]
            yield indices, settings

    def _differ(self, settings: Sequence[Sequence[Settings]]) -> bool:
        """Whether lanes are updated differently, or torch's fused kernels cannot read the learning rate."""
        differ = any(len(set(of_lanes)) > 1 for of_lanes in settings)
        apart = self.lanes > 1 and bool(self._apart(0))
        return differ or apart or self.parameters[0].dtype == torch.float64

    def _parts(self, indices: list[int], lanes: slice) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
        """Views of some lanes of some parameters and of their states."""
        parameters = [self._lanes_of(i, self.parameters[i].detach(), lanes) for i in indices]
        return parameters, {
            slot: [self._lanes_of(i, tensors[i], lanes) for i in indices]
            for slot, tensors in self.slots.items()
        }

    def _blocks(self, rules: Sequence[tuple[list[int], list[Settings]]]) -> list[Block]:
        blocks = []
        for indices, settings in rules:
            for shared, members in groupby(range(self.lanes), key=lambda k: (settings[k], *self._apart(k))):
                consecutive = list(members)
                lanes = slice(consecutive[0], consecutive[-1] + 1)
                steps = [self.updates[0].clone() for _ in indices]
                made = Block(lanes, shared[0], indices, *self._parts(indices, lanes), steps)
                made.all_lanes = len(consecutive) == self.lanes
                blocks.append(made)
        return blocks

    def _apart(self, lane: int) -> tuple[int, ...]:
        """What keeps a lane out of the blocks of others: Adam's counters, if lanes can skip updates, and
        learning rates that fall lane by lane.
        """
        return (lane,) if self._lone or (self.scale is not None and self.spec.name in COUNTING) else ()

    def _lanes_of(self, index: int, tensor: Tensor, lanes: slice) -> Tensor:
        """A view of some lanes of a tensor that has the shape and memory order of parameter `index`."""
        order = self._orders[index]
        return self._part(tensor if order is None else tensor.permute(order), lanes)

    def _part(self, tensor: Tensor, lanes: slice) -> Tensor:
        """A view of some lanes of a lane-major tensor: (lanes, …); the tensor itself if all are asked for."""
        part: Tensor = (
            tensor if lanes == slice(0, self.lanes) else tensor.unflatten(0, (self.lanes, -1))[lanes]
        )
        return part

    def scale_lanes(self, factors: Sequence[float]) -> None:
        """Multiply the learning rate of every lane by a factor of its own (`schedule=plateau`), from the next
        `begin_step` on.
        """
        self._factors = torch.tensor(factors, dtype=torch.float64, device=self.updates.device)
        for block in self.blocks:
            block.factor = factors[block.lanes.start]
        rates = [block.settings.lr * block.factor for block in self.blocks]
        self.rates.copy_(torch.tensor(rates, dtype=torch.float64))

    def begin_step(self, multiplier: float) -> None:
        """Set every lane's learning rate to its own times the schedule's multiplier."""
        for together in self.lane_blocks:
            rates = together.rates if self._factors is None else together.rates * self._factors
            torch.mul(rates, multiplier, out=together.lr)
        torch.mul(self.rates, multiplier, out=self.lr)

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """Update all parameters in place, at the learning rates of `begin_step`. If losses are scaled, lanes
        whose gradients overflowed do not change.

        Args:
            gradients: of the scaled losses, one per parameter, in its shape; changed in place.
        """
        # NUMERICS: the kernels ignore strides, so a gradient must have the memory order of its parameter
        grads = [
            g if g.stride() == stride else torch.empty_like(p).copy_(g)
            for g, p, stride in zip(gradients, self.parameters, self._strides, strict=True)
        ]
        finite = None if self.scale is None else self.scale.unscale(grads)
        if self.gammas:
            signs = torch._foreach_sign([self.parameters[i] for i in self.gammas])
            torch._foreach_add_([grads[i] for i in self.gammas], signs, alpha=self.spec.gamma_l1)
        if self.spec.clip != "none":
            self._clip(grads, self.spec.clip)
        if finite is None:
            self._update_blocks(grads)
            if self.lane_blocks:  # PERF: blocks have counters of their own
                self.updates += 1
            return
        with self._updating_only(finite):
            self._update_blocks(grads)
        self.updates += finite
        self._set_counters()

    def _update_blocks(self, grads: list[Tensor]) -> None:
        whole = [
            g if order is None else g.permute(order) for g, order in zip(grads, self._orders, strict=True)
        ]
        for block in self.blocks:
            own = [whole[i] for i in block.indices]
            update(block, own if block.all_lanes else [self._part(g, block.lanes) for g in own], self.spec)
        for together in self.lane_blocks:
            update_lanes(together, [whole[i] for i in together.indices], self.spec, self.updates)

    @contextmanager
    def _updating_only(self, lanes: Tensor) -> Iterator[None]:
        """Undo the update of all lanes but those that are true in `lanes`: (K,) bool."""
        changed = [*self.parameters, *(t for tensors in self.slots.values() for t in tensors)]
        before = [tensor.clone() for tensor in changed]
        yield
        for tensor, old in zip(changed, before, strict=True):
            now, then = (t.unflatten(0, (self.lanes, -1)) for t in (tensor, old))
            now.copy_(torch.where(lanes.view(-1, *(1,) * (now.dim() - 1)), now, then))

    def _clip(self, grads: list[Tensor], largest: float) -> None:
        """Scale a lane's gradient to norm `largest` if its norm is larger, each lane for itself."""
        per_lane = [g.unflatten(0, (self.lanes, -1)) for g in grads]
        squares = torch.stack([g.flatten(1).square().sum(1) for g in per_lane]).sum(0)  # (K,)
        factor = (largest / (squares.sqrt() + 1e-6)).clamp(max=1.0)
        for g in per_lane:
            g.mul_(factor.view(-1, *(1,) * (g.dim() - 1)))

    def state(self) -> dict[str, Tensor]:
        """All that a checkpoint needs, by name: `slot/parameter`, lane-major; with a loss scale, its factors
        and the updates of each lane, too.
        """
        slots = {
            f"{slot}/{name}": t
            for slot, tensors in self.slots.items()
            for name, t in zip(self.names, tensors, strict=True)
        }
        if self.scale is None:
            return slots
        scale = {f"loss_scale/{name}": t for name, t in self.scale.state().items()}
        return {**slots, **scale, "updates": self.updates}

    def tensors(self) -> list[Tensor]:
        """Every tensor that a step changes, except the parameters."""
        counters = [counter for block in self.blocks for counter in block.steps]
        updates = [] if self.scale is not None else [self.updates]  # a part of `state` already
        return [*self.state().values(), *updates, *counters]

    def resume(self, step: int) -> None:
        """Set the step counters, after the tensors of `state` have been restored."""
        if self.scale is None:
            self.updates.fill_(step)
        self._set_counters()

    def _set_counters(self) -> None:
        """Set Adam's step counters to the updates of their lanes."""
        for block in self.blocks:
            for counter in block.steps:
                counter.copy_(self.updates[block.lanes.start])


def memory_order(tensor: Tensor) -> tuple[int, ...] | None:
    """The axes, from the largest stride to the smallest; None if they are in this order already.

    PERF: torch's fused CPU kernels copy tensors that are not contiguous.

    >>> memory_order(torch.zeros(8, 3, 5, 5).contiguous(memory_format=torch.channels_last))
    (0, 2, 3, 1)
    """
    order = tuple(sorted(range(tensor.dim()), key=lambda axis: -tensor.stride()[axis]))
    return None if order == tuple(range(tensor.dim())) else order
