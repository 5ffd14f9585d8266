"""What a step of a run must compute and move at least, and what this machine can.

Arithmetic is that of convolutions and matrix products, 2 for a multiplication and addition: forward, and
twice as much backward, without the gradient that the first layer would hand to the images. Memory traffic:

    bytes                   every parameter, its gradient and the optimiser's state read and written once
    bytes_with_activations  and every layer's output and its gradient, too

The first is a bound for any implementation whose weights do not stay in a cache; the second is what layers
one after the other move, and less where outputs stay in a cache or layers are fused.
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
from normbench.engine.optim import SLOTS
from normbench.models.layers import Conv2d, Linear
from normbench.spec import EngineSpec, RunSpec


@dataclass(frozen=True)
class Work:
    """What a step of one run takes."""

    flops: int
    bytes: int
    bytes_with_activations: int


def work(spec: RunSpec, image: Shape) -> Work:
    """Count a step of a run, from the shapes in a forward pass of zeros.

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
        if output.data_ptr() != inputs[0].data_ptr():  # a view moves nothing
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
    return Work(3 * sum(forward) - forward[0], least, least + 4 * outputs * working(spec.engine).itemsize)


#: What shows the peaks of a machine: a product of matrices, copies beyond its caches and within.
PROBES = ("product", "copy", "copy in cache")
#: Side of the matrices, and bytes of the copies, by device.
SIDE = {"cpu": 1024, "cuda": 8192}
COPIES = {"copy": {"cpu": 2**26, "cuda": 2**29}, "copy in cache": {"cpu": 2**18, "cuda": 2**23}}


def probe(name: str, engine: EngineSpec, device: torch.device) -> Callable[[int], object]:
    """One of PROBES, ready to be repeated; the product in the precision of a run's products."""
    if name == "product":
        a = torch.ones(SIDE[device.type], SIDE[device.type], device=device, dtype=working(engine))
        b = torch.empty_like(a)
        return lambda number: torch.mm(a, a, out=b)
    source = torch.ones(COPIES[name][device.type], dtype=torch.uint8, device=device)
    copied = torch.empty_like(source)
    return lambda number: copied.copy_(source)


def amount(name: str, device: torch.device) -> int:
    """What one repetition of a probe comes to: operations, or bytes read and written."""
    return 2 * (SIDE[device.type] ** 3 if name == "product" else COPIES[name][device.type])


def working(engine: EngineSpec) -> torch.dtype:
    """Type of what convolutions and matrix products read and write."""
    return HALVES.get(engine.precision, STORAGE[engine.precision])
