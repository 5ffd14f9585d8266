"""The least arithmetic and memory traffic of a run's step, and the peaks of this machine.

Arithmetic counts convolutions and matrix products, 2 operations per multiplication and addition. The backward
pass takes twice as much as the forward pass. The first layer's input needs no gradient. Memory traffic is:

    bytes                   every parameter, its gradient and the optimiser's state, read and written once
    bytes_with_activations  the same, plus every layer's output and its gradient

The first is a lower bound for every implementation whose weights do not stay in a cache. The second is what
layers move if they run one after the other. It is less if outputs stay in a cache or layers are fused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from normbench import models
from normbench.bench.phases import phase_of
from normbench.data.shape import Shape
from normbench.engine.device import HALVES, STORAGE
from normbench.engine.update_rules import SLOTS
from normbench.models.layers import Conv2d, Linear
from normbench.spec import EngineSpec, RunSpec


@dataclass(frozen=True)
class StepCounts:
    """Arithmetic and memory traffic of one step of one run, see the module."""

    flops: int
    bytes: int
    bytes_with_activations: int


def count_step(spec: RunSpec, image: Shape) -> StepCounts:
    """Count the operations and bytes of a step of a run, from shapes in a forward pass of zeros.

    Raises:
        InputError: the run cannot be built as asked.
    """
    network = models.build([spec], image, dry=True)
    forward: list[int] = []
    outputs = 0

    def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal outputs
        if isinstance(module, Conv2d | Linear):
            inner = module.weight[0].numel() if isinstance(module, Conv2d) else module.weight.shape[2]
            forward.append(2 * output.numel() * inner)
        if output.data_ptr() != inputs[0].data_ptr():  # a view moves no bytes
            outputs += output.numel()

    for module in network.body.modules():
        if phase_of(module):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(spec.total, image.channels, image.size, image.size))
    parameters = sum(p.numel() for p in network.parameters())
    state = 0 if spec.optim.name == "sgd" and not spec.optim.momentum else len(SLOTS[spec.optim.name])
    width = STORAGE[spec.engine.precision].itemsize
    least = 2 * (2 + state) * parameters * width
    return StepCounts(
        3 * sum(forward) - forward[0], least, least + 4 * outputs * working(spec.engine).itemsize
    )


#: What measures the peaks of a machine: a matrix product, a copy larger than its caches, and a smaller one.
PROBES = ("product", "copy", "copy in cache")
#: Side of the matrices, and bytes of the copies, by kind of device.
SIDE = {"cpu": 1024, "cuda": 8192}
COPIES = {"copy": {"cpu": 2**26, "cuda": 2**29}, "copy in cache": {"cpu": 2**18, "cuda": 2**23}}


def probe(name: str, engine: EngineSpec, device: torch.device) -> Callable[[int], object]:
    """One of PROBES as a step. The matrix product has the precision of a run's matrix products."""
    if name == "product":
        a = torch.ones(SIDE[device.type], SIDE[device.type], device=device, dtype=working(engine))
        b = torch.empty_like(a)
        return lambda number: torch.mm(a, a, out=b)
    source = torch.ones(COPIES[name][device.type], dtype=torch.uint8, device=device)
    copied = torch.empty_like(source)
    return lambda number: copied.copy_(source)


def amount(name: str, device: torch.device) -> int:
    """Operations of one matrix product, or bytes that one copy reads and writes."""
    return 2 * (SIDE[device.type] ** 3 if name == "product" else COPIES[name][device.type])


def working(engine: EngineSpec) -> torch.dtype:
    """The type that convolutions and matrix products read and write."""
    return HALVES.get(engine.precision, STORAGE[engine.precision])
