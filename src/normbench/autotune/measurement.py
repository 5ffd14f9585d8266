"""Short measurements on a device: a few steps of a stack, and each of its convolutions in every way."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from normbench import models
from normbench.autotune.memory import taken
from normbench.data.dataset import Dataset
from normbench.data.shape import Shape
from normbench.engine.device import STORAGE, casting, find_device, numerics
from normbench.engine.graph import Graphs
from normbench.engine.stack import Stack
from normbench.engine.stack_layout import StackLayout, convolutions
from normbench.models.layers import Conv2d
from normbench.spec import RunSpec

#: Seconds that a measurement of steps takes at least, and of a convolution, unless two of them take longer.
STEPS_S, WAYS_S = 0.1, 0.02
WINDOWS = 5
#: Images at most of a convolution that is measured by itself.
FEW = 32
#: A way that is so many times slower than another one at its first call is not tried again.
HOPELESS = 1.5
#: Images that trials choose from.
IMAGES = 512


def release() -> None:
    """Give back the memory of trials that have ended."""
    gc.collect()  # a stack's step knows itself
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def step_time(spec: RunSpec, shape: Shape, lanes: int, form: StackLayout) -> tuple[float, int]:
    """Seconds of a step by lane, and bytes of the stack, of that many runs in that form.

    Args:
        shape: of the data as the model gets them; the pixels are random.

    Raises:
        Exception: whatever training such runs raises, lack of memory first.
    """
    device = find_device(spec.engine.device)
    specs = _lanes(spec, lanes)
    with numerics(spec.engine):
        release()
        before = _reserved(device)
        stack = Stack(specs, _noise(spec, shape).to(device), device, form)
        if device.type == "cuda":
            stack.step(0)
            memory = torch.cuda.max_memory_reserved(device) - before
        else:
            memory = taken(stack)
        number = iter(range(1, stack.steps))
        return _seconds(lambda: stack.step(next(number)), device, STEPS_S) / lanes, memory


def conv_times(
    spec: RunSpec, shape: Shape, lanes: int, layout: str, kinds: Sequence[str]
) -> dict[str, list[float]]:
    """Seconds that every convolution of a stack takes, forward and backward, by name in each of some ways.

    One pass of images goes through the network; layers of the same shape are measured once.

    Args:
        kinds: of `models.convolution.ALGORITHMS`.
    """
    device = find_device(spec.engine.device)
    form = StackLayout(layout)
    network = models.build(_lanes(spec, lanes), shape).to(device, STORAGE[spec.engine.precision])
    form.shape(network)
    known: dict[tuple[Any, ...], list[float]] = {}
    found: dict[str, list[float]] = {}

    def measure(name: str) -> Callable[[Conv2d, tuple[Tensor]], None]:
        def hook(layer: Conv2d, inputs: tuple[Tensor]) -> None:
            [x] = inputs
            alike = (x.shape, x.requires_grad, layer.weight.shape, layer.stride, layer.padding)
            if alike not in known:
                x = x.detach()[:FEW].requires_grad_(x.requires_grad)
                known[alike] = _race(layer, x, kinds, spec, device)
            found[name] = known[alike]

        return hook

    for name, layer in convolutions(network).items():
        layer.register_forward_pre_hook(measure(name))
    x = torch.randn(
        spec.total, lanes * shape.channels, shape.size, shape.size,
        device=device, dtype=STORAGE[spec.engine.precision], generator=torch.Generator(device).manual_seed(0),
    ).contiguous(memory_format=form.memory_format)  # fmt: skip
    network.begin_step(0, 1)
    with numerics(spec.engine), casting(spec.engine, device):
        network(x)
    return found


def _race(layer: Conv2d, x: Tensor, kinds: Sequence[str], spec: RunSpec, device: torch.device) -> list[float]:
    """Seconds of a convolution of x with its backward pass, in each of some ways."""
    wanted = [x, layer.weight] if x.requires_grad else [layer.weight]
    with torch.no_grad():
        gradient = torch.ones_like(layer.forward(x))
    seconds: list[float] = []
    for kind in kinds:
        layer.algorithm = kind

        def perform() -> None:
            with torch.enable_grad(), casting(spec.engine, device):
                y = layer.forward(x)
            torch.autograd.grad(y, wanted, gradient)

        replay = Graphs(perform, list) if device.type == "cuda" and spec.engine.graphs else None
        call = perform if replay is None else lambda replay=replay: replay(0)
        call()
        seconds.append(_seconds(call, device, WAYS_S, HOPELESS * min(seconds, default=float("inf"))))
    return seconds


def _seconds(
    call: Callable[[], None], device: torch.device, least: float, hopeless: float = float("inf")
) -> float:
    """Seconds of one call, after a first one that does not count: the shortest of five windows that together
    take `least`, for what neighbours add is none of them; or those of a single call that takes longer or is
    hopeless.
    """
    once = _window(call, 1, device)
    if once > min(hopeless, least):
        return once
    calls = max(1, round(least / WINDOWS / once))
    return min(_window(call, calls, device) for _ in range(WINDOWS))


def _window(call: Callable[[], None], calls: int, device: torch.device) -> float:
    began = _now(device)
    for _ in range(calls):
        call()
    return (_now(device) - began) / calls


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _reserved(device: torch.device) -> int:
    """Bytes that torch holds on a GPU; from here on it counts how many that are at most."""
    if device.type != "cuda":
        return 0
    torch.cuda.init()
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_reserved(device)


def _lanes(spec: RunSpec, lanes: int) -> list[RunSpec]:
    """Runs like one, by seeds; long enough that no measurement comes to their end, and not compiled, which
    takes longer than it measures.
    """
    engine = spec.engine.model_copy(update={"compile": False})
    long = spec.model_copy(update={"engine": engine, "epochs": None, "steps": 10**6})
    return [long.model_copy(update={"seed": seed}) for seed in range(lanes)]


def _noise(spec: RunSpec, shape: Shape) -> Dataset:
    images = max(IMAGES, spec.total)
    size = (images, shape.channels, shape.size, shape.size)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, size, dtype=torch.uint8, generator=generator)
    labels = torch.randint(shape.classes, (images,), generator=generator)
    same = (0.5,) * shape.channels
    return Dataset("noise", shape.classes, pixels, labels, pixels[:1], labels[:1], same, same, "")
