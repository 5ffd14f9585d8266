"""Clauses about training: shapes, gradients, evaluation, state, resuming."""

from __future__ import annotations

import copy
import inspect
import re
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from normbench import norms
from normbench.norms.contract.subject import (
    IMAGES,
    Subject,
    changed,
    check,
    draw,
    gradients,
    near,
    state_of,
)
from normbench.norms.core import Norm

#: Shapes on which a layer trains, or which it refuses with a remedy.
AWKWARD = {
    "one image": (1, 6, 4, 3),
    "one position": (4, 6, 1, 1),
    "one value per channel": (1, 6, 1, 1),
    "one channel": (4, 1, 4, 3),
    "a prime number of channels": (4, 7, 4, 3),
}
_REMEDY = r"\b(use|set|lower|raise|choose|drop|leave|give)\b"


def constructor(subject: Subject) -> None:
    """A layer needs its channels alone, and has one lane by default."""
    channels, lanes, *_ = inspect.signature(subject.entry.layer).parameters.values()
    check(
        (channels.name, channels.default) == ("channels", inspect.Parameter.empty),
        "the first argument must be channels, without a default",
    )
    check((lanes.name, lanes.default) == ("lanes", 1), "the second argument must be lanes=1")


def constant_input(subject: Subject) -> None:
    """A constant input gives finite outputs and gradients."""
    for value in (0.0, 3.0):
        y, grads = gradients(subject.make(), torch.full(IMAGES, value, dtype=torch.float64))
        check(bool(y.isfinite().all()), f"the output of a constant input of {value:g} is not finite")
        check(
            all(bool(t.isfinite().all()) for t in grads),
            f"a gradient at a constant input of {value:g} is not finite",
        )


def awkward_shapes(subject: Subject) -> None:
    """An awkward shape is refused with a remedy, or trained on."""
    for name, shape in AWKWARD.items():
        try:
            layer = subject.make(channels=shape[1])
            layer.check(shape)
        except norms.NormError as refused:
            check(
                str(refused).startswith(f"{subject.key}: ") and bool(re.search(_REMEDY, str(refused), re.I)),
                f"{name}: the refusal must begin with the key and give a remedy; it says: {refused}",
            )
            continue
        y, grads = gradients(layer, draw(shape))
        evaluated = layer.eval()(draw(shape, 1))
        check(
            all(bool(t.isfinite().all()) for t in (y, *grads, evaluated)),
            f"{name}, {shape}: an output or a gradient is not finite; let check refuse this shape",
        )


def exact_gradients(subject: Subject) -> None:
    """Gradients agree with finite differences, in training and in evaluation."""
    for training in (True, False):
        if training and not subject.entry.exact_gradient:
            continue  # its backward pass is not the gradient, as it declares
        layer = subject.make(channels=4).train(training)
        names = [name for name, _ in layer.named_parameters()]
        parameters = [p.detach().clone().requires_grad_() for p in layer.parameters()]

        def call(x: Tensor, *values: Tensor, layer: Norm = layer, names: list[str] = names) -> Tensor:
            fresh = copy.deepcopy(layer)  # every call is to see the state that the first saw
            y: Tensor = functional_call(fresh, dict(zip(names, values, strict=True)), (x,))
            return y

        x = draw((4, 4, 2, 3)).requires_grad_()
        fits = torch.autograd.gradcheck(call, (x, *parameters), raise_exception=False)
        check(
            fits,
            f"in {'training' if training else 'evaluation'}, a gradient is not that of finite differences",
        )


def evaluation_leaves_no_trace(subject: Subject) -> None:
    """Evaluation repeats itself, and leaves the layer alone."""
    layer = subject.make()
    layer(draw(IMAGES, 1))
    layer.eval()
    x, before = draw(IMAGES, 2), state_of(layer)
    check(torch.equal(layer(x), layer(x)), "two evaluations of the same input differ")
    if names := changed(layer, before):
        check(False, f"evaluation changes {', '.join(names)}")


def input_untouched(subject: Subject) -> None:
    """No call changes its input in place."""
    layer, x = subject.make(), draw(IMAGES)
    given = x.clone()
    for training in (True, False):
        layer.train(training)(x)
        check(torch.equal(x, given), f"{'training' if training else 'evaluation'} changes its input in place")


def resuming(subject: Subject) -> None:
    """A saved layer continues training bit by bit."""

    def train(layer: Norm, steps: range) -> Tensor:
        y = torch.empty(0)
        for step in steps:
            y, (_, *grads) = gradients(layer, draw(IMAGES, step))
            with torch.no_grad():
                for parameter, grad in zip(layer.parameters(), grads, strict=True):
                    parameter.sub_(0.01 * grad)
        return y

    straight, first = subject.make(), subject.make()
    expected = train(straight, range(6))
    train(first, range(3))
    resumed = subject.make()
    resumed.load_state_dict(state_of(first))
    check(
        torch.equal(train(resumed, range(3, 6)), expected),
        "a layer that was saved and loaded goes on differently; keep all that it needs in buffers",
    )
    if names := changed(resumed, straight.state_dict()):
        check(False, f"after loading and going on, {', '.join(names)} differ")


def memory_layout(subject: Subject) -> None:
    """The memory layout of the input does not matter."""
    for lanes in (1, 2):
        x = draw(IMAGES, lanes=lanes)
        expected, wanted = gradients(subject.make(lanes), x)
        strided = torch.stack([x, x], dim=2)[:, :, 1]
        turned = x.transpose(2, 3).contiguous().transpose(2, 3)
        others = {
            "channels_last": x.to(memory_format=torch.channels_last),
            "strided": strided,
            "transposed": turned,
        }
        for name, other in others.items():
            assert other.stride() != x.stride()
            y, got = gradients(subject.make(lanes), other)
            near(y, expected, 1e-12, f"{name} input gives another output", relative=1e-12)
            for a, b in zip(got, wanted, strict=True):
                near(a, b, 1e-11, f"{name} input gives another gradient", relative=1e-11)


def affine(subject: Subject) -> None:
    """`affine` decides which of γ and β there are."""

    def names(**args: Any) -> set[str]:
        return {name for name, _ in subject.make(**args).named_parameters()}

    if "affine" not in subject.entry.arguments:
        return
    wanted = {True: {"weight", "bias"}, "weight": {"weight"}, "bias": {"bias"}, False: set[str]()}
    own = names() - {"weight", "bias"}
    for value, present in wanted.items():
        found = names(affine=value) - own
        check(found == present, f"affine={value} gives the parameters {sorted(found)}, not {sorted(present)}")


def roles(subject: Subject) -> None:
    """Every parameter has a role: `roles` maps its name to scale, shift, …"""
    layer = subject.make()
    for name, _ in layer.named_parameters(recurse=False):
        check(name in layer.roles, f"parameter {name} has no role; add it to the class attribute roles")


def meta_device(subject: Subject) -> None:
    """A layer builds and runs without data, on the device meta."""
    with torch.device("meta"):
        layer = subject.make(2)
        x = torch.empty(IMAGES[0], 2 * IMAGES[1], *IMAGES[2:], dtype=torch.float64)
        check(layer(x).shape == x.shape, "the output has another shape on the device meta")


def momentum_direction(subject: Subject) -> None:
    """Momentum is the weight of the new batch: a larger one moves the running statistics further."""
    if "momentum" not in subject.entry.arguments:
        return
    before = state_of(subject.make())
    moved = {}
    for momentum in (0.1, 0.9):
        layer = subject.make(momentum=momentum)
        for step in range(2):
            layer.begin_step(step, 2)
            layer(draw(IMAGES, step))
        moved[momentum] = state_of(layer)
    floating = [name for name, t in before.items() if t.is_floating_point()]
    dependent = [n for n in floating if not torch.equal(moved[0.1][n], moved[0.9][n])]
    check(bool(dependent), "momentum=0.1 and 0.9 leave the same statistics")
    for name in dependent:
        small, large = ((moved[m][name] - before[name]).norm() for m in (0.1, 0.9))
        check(
            bool(large > small),
            f"momentum=0.9 moves {name} less than 0.1; momentum must be the weight of the new batch",
        )


CLAUSES = (
    constructor, constant_input, awkward_shapes, exact_gradients, evaluation_leaves_no_trace, input_untouched,
    resuming, memory_layout, affine, roles, meta_device, momentum_direction,
)  # fmt: skip
