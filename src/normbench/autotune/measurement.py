"""Short measurements on a device: a few steps of a stack, and each of its convolutions by each algorithm."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from normbench import models
from normbench.autotune.memory import stack_bytes
from normbench.data.dataset import Dataset
from normbench.data.shape import Shape
from normbench.engine.device import STORAGE, casting, find_device, numerics
from normbench.engine.graph import Graphs
from normbench.engine.stack import Stack
from normbench.engine.stack_layout import StackLayout, convolutions
from normbench.instruments import now
from normbench.models.layers import Conv2d
from normbench.spec import RunSpec

#: Seconds that are spent on the steps of one stack, and on one convolution by one algorithm. A call that
#: takes longer than this is made once.
STEP_BUDGET_S, CONV_BUDGET_S = 0.1, 0.02
#: The budget is divided into so many windows; the shortest one counts.
WINDOWS = 5
#: A convolution is measured alone on at most so many images.
CONV_IMAGES = 32
#: An algorithm is given up if its first call takes so many times as long as the fastest one.
GIVE_UP_RATIO = 1.5
#: Random images that a measured stack trains on.
RANDOM_IMAGES = 512


def release_memory() -> None:
    """Give back the memory of measured stacks that are no longer used."""
    gc.collect()  # a stack whose measurement failed is part of a traceback
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def step_time(spec: RunSpec, shape: Shape, lanes: int, layout: StackLayout) -> tuple[float, int]:
    """Measure a few steps of a stack of such runs.

    Args:
        shape:  of the data as the model gets them. The pixels are random.
        lanes:  the width of the stack.
        layout: of the stack.

    Returns:
        Seconds of one step divided by the lanes, and bytes of the whole stack.

    Raises:
        Exception: whatever training such runs raises, most often too little memory.
    """
    device = find_device(spec.engine.device)
    specs = _endless_runs(spec, lanes)
    with numerics(spec.engine, device):
        release_memory()
        before = _reserved(device)
        with Stack(specs, _random_data(spec, shape).to(device), device, layout) as stack:
            if device.type == "cuda":
                stack.step(0)
                memory = torch.cuda.max_memory_reserved(device) - before
            else:
                memory = stack_bytes(stack)
            number = iter(range(1, stack.steps))
            return _seconds(lambda: stack.step(next(number)), device, STEP_BUDGET_S) / lanes, memory


def conv_times(
    spec: RunSpec, shape: Shape, lanes: int, memory_format: str, algorithms: Sequence[str]
) -> dict[str, list[float]]:
    """Measure every convolution of a stack alone, forward and backward, by each algorithm.

    One batch goes through the network to find the input of each convolution. Convolutions with inputs and
    weights of the same shape are measured once.

    Args:
        shape:         of the data as the model gets them. The pixels are random.
        lanes:         the width of the stack.
        memory_format: a key of `stack_layout.MEMORY_FORMATS`.
        algorithms:    keys of `models.convolution.ALGORITHMS`.

    Returns:
        Seconds per algorithm, in the order of `algorithms`, by layer name.
    """
    device = find_device(spec.engine.device)
    layout = StackLayout(memory_format)
    network = models.build(_endless_runs(spec, lanes), shape).to(device, STORAGE[spec.engine.precision])
    layout.apply(network)
    known: dict[tuple[Any, ...], list[float]] = {}
    found: dict[str, list[float]] = {}

    def measure(name: str) -> Callable[[Conv2d, tuple[Tensor]], None]:
        def hook(layer: Conv2d, inputs: tuple[Tensor]) -> None:
            [x] = inputs
            alike = (x.shape, x.requires_grad, layer.weight.shape, layer.stride, layer.padding)
            if alike not in known:
                x = x.detach()[:CONV_IMAGES].requires_grad_(x.requires_grad)
                known[alike] = _times_of_layer(layer, x, algorithms, spec, device)
            found[name] = known[alike]

        return hook

    for name, layer in convolutions(network).items():
        layer.register_forward_pre_hook(measure(name))
    x = torch.randn(
        spec.total, lanes * shape.channels, shape.size, shape.size,
        device=device, dtype=STORAGE[spec.engine.precision], generator=torch.Generator(device).manual_seed(0),
    ).contiguous(memory_format=layout.torch_format)  # fmt: skip
    network.begin_step(0, 1)
    with numerics(spec.engine, device), casting(spec.engine, device):
        network(x)
    return found


def _times_of_layer(
    layer: Conv2d, x: Tensor, algorithms: Sequence[str], spec: RunSpec, device: torch.device
) -> list[float]:
    """Seconds of one convolution of x (N, K·C, H, W) and its backward pass, by each algorithm."""
    wanted = [x, layer.weight] if x.requires_grad else [layer.weight]
    with torch.no_grad():
        gradient = torch.ones_like(layer.forward(x))
    seconds: list[float] = []
    for algorithm in algorithms:
        layer.algorithm = algorithm

        def perform() -> None:
            with torch.enable_grad(), casting(spec.engine, device):
                y = layer.forward(x)
            torch.autograd.grad(y, wanted, gradient)

        replay = Graphs(perform, list) if device.type == "cuda" and spec.engine.graphs else None
        call = perform if replay is None else lambda replay=replay: replay(0)
        call()
        give_up = GIVE_UP_RATIO * min(seconds, default=float("inf"))
        seconds.append(_seconds(call, device, CONV_BUDGET_S, give_up))
        if replay is not None:
            replay.release()
    return seconds


def _seconds(
    call: Callable[[], None], device: torch.device, budget: float, give_up: float = float("inf")
) -> float:
    """Seconds of one call: the mean over the calls of a window, and the shortest of five windows.

    The shortest one counts because other programs on the machine can only make a window longer. One call
    comes first to see how many fit into the budget.

    Args:
        budget:  seconds of all windows together. A call that takes longer is made once.
        give_up: a call that takes longer than so many seconds is made once.
    """
    once = _mean_seconds(call, 1, device)
    if once > min(give_up, budget):
        return once
    calls = max(1, round(budget / WINDOWS / once))
    return min(_mean_seconds(call, calls, device) for _ in range(WINDOWS))


def _mean_seconds(call: Callable[[], None], calls: int, device: torch.device) -> float:
    began = now(device)
    for _ in range(calls):
        call()
    return (now(device) - began) / calls


def _reserved(device: torch.device) -> int:
    """Bytes that torch holds on a GPU now. Torch's count of the peak starts anew here."""
    if device.type != "cuda":
        return 0
    torch.cuda.init()
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_reserved(device)


def _endless_runs(spec: RunSpec, lanes: int) -> list[RunSpec]:
    """Runs like the given one with seeds 0, 1, …, so long that no measurement reaches their end.

    They are not compiled: compiling takes longer than the measurement.
    """
    engine = spec.engine.model_copy(update={"compile": False})
    endless = spec.model_copy(update={"engine": engine, "epochs": None, "steps": 10**6})
    return [endless.model_copy(update={"seed": seed}) for seed in range(lanes)]


def _random_data(spec: RunSpec, shape: Shape) -> Dataset:
    """Random images and labels of the given shape."""
    images = max(RANDOM_IMAGES, spec.total)
    size = (images, shape.channels, shape.size, shape.size)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, size, dtype=torch.uint8, generator=generator)
    labels = torch.randint(shape.classes, (images,), generator=generator)
    half = (0.5,) * shape.channels
    own = "image" if spec.data.standardize == "image" else "channel"  # the others take as long as channel
    return Dataset("noise", shape.classes, pixels, labels, pixels[:1], labels[:1], half, half, "", own)
