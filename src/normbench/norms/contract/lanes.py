"""Clauses about lanes: K lanes of a layer equal K layers. Stacked training depends on it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from normbench import norms
from normbench.norms.contract.subject import IMAGES, Subject, check, draw, near
from normbench.norms.core import Norm
from normbench.norms.side_by_side import SideBySide

LANES = 3
#: What lanes may differ in; the last has every form of momentum.
VARIED: dict[str, dict[str, tuple[Any, ...]]] = {
    "lanes alike": {},
    "eps of their own": {"eps": (1e-5, 1e-3, 0.1)},
    "momentum of their own": {"momentum": (0.1, 0.5, 0.01)},
    "eps and form of momentum of their own": {
        "eps": (0.1, 1e-5, 1e-5),
        "momentum": (0.1, "cumulative", "debiased:0.3"),
    },
}
_TOLERANCE = 1e-12


def _varied(subject: Subject) -> list[str]:
    """What lanes of the method may differ in. Copies side by side take plain numbers as momenta."""
    numbers = issubclass(subject.entry.layer, SideBySide)
    return [name for name in VARIED if not (numbers and "form of momentum" in name)]


def _settings(subject: Subject, varied: str) -> list[dict[str, Any]]:
    """Constructor arguments of every lane."""
    known = subject.entry.arguments
    return [
        {name: values[lane] for name, values in VARIED[varied].items() if name in known}
        for lane in range(LANES)
    ]


def _stacked(lanes: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: [lane[name] for lane in lanes] for name in lanes[0]}


def _step(layer: Norm, x: Tensor, lr: float) -> tuple[Tensor, Tensor]:
    """One step of gradient descent on a fixed random projection; output and input gradient."""
    x = x.clone().requires_grad_()
    y = layer(x)
    per_lane = y.numel() // layer.lanes
    weights = torch.sin(torch.arange(per_lane, dtype=y.dtype)).view(y.shape[0], -1, *y.shape[2:])
    grads = torch.autograd.grad(
        (y * weights.repeat(1, layer.lanes, *[1] * (y.dim() - 2))).sum(), [x, *layer.parameters()]
    )
    with torch.no_grad():
        for parameter, grad in zip(layer.parameters(), grads[1:], strict=True):
            parameter.sub_(lr * grad)
    return y.detach(), grads[0]


def _lane_of(tensor: Tensor, lane: int) -> Tensor:
    found: Tensor = tensor.unflatten(1, (LANES, -1))[:, lane]
    return found


def lane_major_state(subject: Subject) -> None:
    """Parameters and buffers lead with the lanes."""
    for name, tensor in subject.make(LANES).state_dict().items():
        check(
            tensor.dim() > 0 and tensor.shape[0] % LANES == 0,
            f"the first axis of {name}, {tuple(tensor.shape)}, must be {LANES} lanes times something",
        )


def lanes_equal_lone_layers(subject: Subject) -> None:
    """Lanes equal lone layers over several steps, in fp64: outputs, gradients, state, evaluation."""
    for varied in _varied(subject):
        for batch in (None, 2):
            if batch is None or "batch" in subject.entry.arguments:
                _compare(subject, varied, {} if batch is None else {"batch": batch})


def _compare(subject: Subject, varied: str, workers: dict[str, Any]) -> None:
    lanes = _settings(subject, varied)
    said = f"{varied}{', two workers' if workers else ''}: "
    for shape in subject.shapes(subject.make(**workers)):
        together = subject.make(LANES, **_stacked(lanes), **workers)
        alone = [subject.make(**lane, **workers) for lane in lanes]
        with torch.no_grad():
            for index, layer in enumerate(alone):
                for name, parameter in layer.named_parameters():
                    own = together.get_parameter(name).view(LANES, -1)[index]
                    parameter.copy_(own.view_as(parameter))
        for seed in range(4):
            x = draw(shape, seed, lanes=LANES)
            y, grad = _step(together, x, 0.01)
            for index, layer in enumerate(alone):
                lone_y, lone_grad = _step(layer, _lane_of(x, index), 0.01)
                where = f"lane {index} of {LANES}, shape {shape}, step {seed + 1}"
                near(
                    _lane_of(y, index),
                    lone_y,
                    _TOLERANCE,
                    f"{said}{where}: the output is not that of a lone layer",
                )
                near(
                    _lane_of(grad, index),
                    lone_grad,
                    _TOLERANCE,
                    f"{said}{where}: the gradient is not that of a lone layer",
                )
        for index, layer in enumerate(alone):
            for name, tensor in layer.state_dict().items():
                mine = together.state_dict()[name].view(LANES, -1)[index].view(tensor.shape)
                near(mine, tensor, _TOLERANCE, f"{said}lane {index} has another {name} than a lone layer")
        x = draw(shape, 9, lanes=LANES)
        y = together.eval()(x)
        for index, layer in enumerate(alone):
            wanted = layer.eval()(_lane_of(x, index))
            near(
                _lane_of(y, index), wanted, _TOLERANCE, f"{said}lane {index} is evaluated unlike a lone layer"
            )


def lanes_are_apart(subject: Subject) -> None:
    """What happens in one lane leaves the others bit-identical, also NaN and infinity."""
    for varied in _varied(subject):
        for value in (math.nan, math.inf, 5.0):
            for shape in subject.shapes(subject.make()):
                _disturb(subject, varied, value, shape)


def _disturb(subject: Subject, varied: str, value: float, shape: tuple[int, ...]) -> None:
    first, second = (subject.make(LANES, **_stacked(_settings(subject, varied))) for _ in range(2))
    said = f"{varied}: {value} in lane 0 changes"
    for seed in range(2):
        x = draw(shape, seed, lanes=LANES)
        disturbed = x.clone()
        disturbed[0, : shape[1]] = value
        (y, grad), (other_y, other_grad) = _step(first, x, 0.01), _step(second, disturbed, 0.01)
        for lane in (1, 2):
            check(
                torch.equal(_lane_of(y, lane), _lane_of(other_y, lane)),
                f"{said} the output of lane {lane}; no statistic may reduce over the lane axis",
            )
            check(
                torch.equal(_lane_of(grad, lane), _lane_of(other_grad, lane)),
                f"{said} the gradient of lane {lane}; no statistic may reduce over the lane axis",
            )
    for name, tensor in first.state_dict().items():
        mine, other = tensor.view(LANES, -1)[1:], second.state_dict()[name].view(LANES, -1)[1:]
        check(torch.equal(mine, other), f"{said} {name} of the other lanes")


def lane_position(subject: Subject) -> None:
    """A lane does not depend on its position."""
    order = torch.tensor([2, 0, 1])
    there, here = subject.make(LANES), subject.make(LANES)
    with torch.no_grad():
        for name, parameter in here.named_parameters():
            parameter.copy_(there.get_parameter(name).view(LANES, -1)[order].view_as(parameter))
    x = draw(IMAGES, lanes=LANES).unflatten(1, (LANES, -1))
    y = there(x.flatten(1, 2)).unflatten(1, (LANES, -1))
    moved = here(x[:, order].flatten(1, 2)).unflatten(1, (LANES, -1))
    check(torch.equal(moved, y[:, order]), "lanes in another order come out differently")


def values_per_lane(subject: Subject) -> None:
    """eps and momentum take one value or one per lane; another number of values is refused."""
    for name in {"eps", "momentum"} & set(subject.entry.arguments):
        try:
            norms.build(subject.key, 6, 3, **{**subject.fitting, name: [0.1, 0.2]})
        except norms.NormError as error:
            wanted = f"{name} must be one value or one per lane; got 2 values for 3 lanes"
            check(
                wanted in str(error), f"2 values of {name} for 3 lanes are refused without saying so: {error}"
            )
        else:
            check(False, f"2 values of {name} for 3 lanes are accepted")


def batch_groups(subject: Subject) -> None:
    """With batch=2, four images are two groups: statistics are those of each group alone."""
    entry = subject.entry
    if "batch" not in entry.arguments or "seeds" in entry.arguments or entry.reads_history:
        return
    x = draw(IMAGES)
    halves = torch.cat([subject.make(batch=2)(part) for part in x.split(2)])
    near(subject.make(batch=2)(x), halves, _TOLERANCE, "groups of two images are not normalized apart")


CLAUSES = (
    lane_major_state, lanes_equal_lone_layers, lanes_are_apart, lane_position, values_per_lane, batch_groups,
)  # fmt: skip
