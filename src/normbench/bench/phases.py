"""The time of a step by phase, such as convolution or normalization.

torch.profiler tells how long every operation took. Marks around the layers tell the phase of an operation in
the forward pass. An operation in the backward pass has the sequence number of one in the forward pass, and
its phase.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from normbench.bench.clock import timed
from normbench.data.dataset import Dataset
from normbench.engine.stack import Stack
from normbench.engine.stack_layout import StackLayout
from normbench.models.layers import Conv2d, Linear
from normbench.norms import Norm
from normbench.spec import RunSpec
from normbench.weight_norms import WeightNorm

CONVOLUTION, PRODUCT, NORM = "convolution", "matrix product", "normalization"
REST, OPTIMISER, DATA, LOSS = "activation and pooling", "optimiser", "data", "loss and meters"
#: The phases of operations. `other` is the time in which no operation ran.
PHASES = (CONVOLUTION, PRODUCT, NORM, REST, OPTIMISER, DATA, LOSS)
OTHER = "other"
_MARK = "normbench: "
#: At most so many steps are profiled: each has hundreds of events.
MOST_STEPS = 10


def phases(
    specs: Sequence[RunSpec],
    dataset: Dataset,
    device: torch.device,
    seconds: float,
    layout: StackLayout | None = None,
) -> dict[str, float]:
    """Seconds of a stack's step by phase, `other` last. Their sum is the time of a step without the profiler.

    On a GPU the times are those of the kernels. The profiled steps do not use CUDA graphs: a replayed graph
    does not tell which layer started a kernel. The profiler slows short operations. If they take longer than
    a whole step without it, they are scaled down to the step.

    Args:
        specs:   the runs of the stack.
        dataset: on the device.
        device:  that the stack trains on.
        seconds: how long steps are timed. As many steps are profiled, but at most MOST_STEPS.
        layout:  of the stack; None: the default one.
    """
    with Stack(specs, dataset, device, layout) as stack:
        timed(stack.step, 0, 0.0, device)
        steps, passed = timed(stack.step, 1, seconds, device)
    engine = specs[0].engine.model_copy(update={"graphs": False, "compile": False})
    bare = Stack([spec.model_copy(update={"engine": engine}) for spec in specs], dataset, device, layout)
    if steps > 1:
        timed(bare.step, 0, 0.0, device)
    spent = _profiled(bare, min(MOST_STEPS, steps), device)
    step = passed / steps
    scale = min(1.0, step / max(sum(spent.values()), 1e-9))
    found = {phase: spent[phase] * scale for phase in PHASES}
    return {**found, OTHER: max(0.0, step - sum(found.values()))}


def _profiled(stack: Stack, steps: int, device: torch.device) -> dict[str, float]:
    """Seconds of operations, or on a GPU of kernels, in a step, by phase."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler writes notices to stderr
    gpu = device.type == "cuda"
    _mark(stack)
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]) as profiler:
        for number in range(1, steps + 1):
            stack.step(number)
        if gpu:
            torch.cuda.synchronize(device)
    return {phase: s / steps for phase, s in _by_phase(profiler.events(), kernels=gpu).items()}


def phase_of(module: nn.Module) -> str | None:
    """The phase of a layer; None for a module that contains layers, or is a part of one."""
    if isinstance(module, Conv2d):
        return CONVOLUTION
    if isinstance(module, Linear):
        return PRODUCT
    if isinstance(module, Norm):
        return NORM
    return None if isinstance(module, WeightNorm) or any(module.children()) else REST


def _mark(stack: Stack) -> None:
    """Mark for the profiler where layers, data and optimiser begin and end."""
    for module in stack.network.body.modules():
        if not isinstance(module, WeightNorm):  # a part of its layer
            module.forward = _marked(module.forward, phase_of(module) or REST)
    for owner, method, phase in (
        (stack.batches, "seek", DATA), (stack.batches, "read", DATA), (stack.network, "begin_step", NORM),
        (stack.optimizer, "begin_step", OPTIMISER), (stack.optimizer, "step", OPTIMISER),
    ):  # fmt: skip
        setattr(owner, method, _marked(getattr(owner, method), phase))


def _marked(function: Callable[..., Any], phase: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with record_function(_MARK + phase):
            return function(*args, **kwargs)

    return call


def _by_phase(events: Iterable[FunctionEvent], *, kernels: bool) -> dict[str, float]:
    """Seconds of all operations, or of the kernels that they started, by phase.

    An operation under no mark belongs to the loss and the meters.
    """
    called = [event for event in events if event.device_type == DeviceType.CPU]
    ancestry = {event.id: list(_ancestry(event)) for event in called}
    forward = {}
    for event in called:
        above = ancestry[event.id]
        if event.sequence_nr >= 0 and not any(map(_backward, above)):
            forward[event.sequence_nr] = _phase(above)  # the last operation made the backward node
    spent = dict.fromkeys(PHASES, 0.0)
    for event in called:
        if not event.name.startswith("aten::"):
            continue  # time of Python between operations
        above = ancestry[event.id]
        node = next((e for e in reversed(above) if _backward(e)), None)
        phase = _phase(above) if node is None else forward.get(node.sequence_nr, LOSS)
        spent[phase] += (event.self_device_time_total if kernels else event.self_cpu_time_total) / 1e6
    return spent


def _ancestry(event: FunctionEvent) -> Iterable[FunctionEvent]:
    """An event and its callers, the innermost first."""
    current: FunctionEvent | None = event
    while current is not None:
        yield current
        current = current.cpu_parent


def _backward(event: FunctionEvent) -> bool:
    return event.name.startswith("autograd::engine::evaluate_function")


def _phase(above: Iterable[FunctionEvent]) -> str:
    """The phase of the innermost mark."""
    return next((e.name.removeprefix(_MARK) for e in above if e.name.startswith(_MARK)), LOSS)
