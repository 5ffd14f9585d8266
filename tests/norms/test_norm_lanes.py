"""K lanes of a layer equal K layers: stacked training depends on it."""

from __future__ import annotations

import math

import pytest
import torch

from normbench import norms

LANES = 3
#: What lanes may differ in; the last has every form of momentum.
VARIED = {
    "lanes alike": {},
    "eps of their own": {"eps": (1e-5, 1e-3, 0.1)},
    "momentum of their own": {"momentum": (0.1, 0.5, 0.01)},
    "eps and form of momentum of their own": {
        "eps": (0.1, 1e-5, 1e-5),
        "momentum": (0.1, "cumulative", "debiased:0.3"),
    },
}


def settings(key: str, varied: str) -> list[dict]:
    """Constructor arguments of every lane."""
    known = norms.entry(key).arguments
    return [
        {name: values[lane] for name, values in VARIED[varied].items() if name in known}
        for lane in range(LANES)
    ]


def stacked(lanes: list[dict]) -> dict:
    return {name: [lane[name] for lane in lanes] for name in lanes[0]}


def step(layer, x, lr: float):
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
            parameter -= lr * grad
    return y.detach(), grads[0]


def lane_of(tensor: torch.Tensor, lane: int) -> torch.Tensor:
    return tensor.unflatten(1, (LANES, -1))[:, lane]


@pytest.mark.parametrize("varied", VARIED)
@pytest.mark.parametrize("batch", [None, 2], ids=["one worker", "two workers"])
def test_lanes_equal_lone_layers_over_several_steps(key, make, draw, shapes, varied, batch):
    lanes = settings(key, varied)
    workers = {"batch": batch} if "batch" in norms.entry(key).arguments else {}
    for shape in shapes(make(key, **workers)):
        together = make(key, LANES, **stacked(lanes), **workers)
        alone = [make(key, **lane, **workers) for lane in lanes]
        with torch.no_grad():
            for index, layer in enumerate(alone):
                for name, parameter in layer.named_parameters():
                    parameter.copy_(together.get_parameter(name).view(LANES, -1)[index].view_as(parameter))
        for seed in range(4):
            x = draw(shape, seed, lanes=LANES)
            y, grad = step(together, x, 0.01)
            for index, layer in enumerate(alone):
                lone_y, lone_grad = step(layer, lane_of(x, index), 0.01)
                torch.testing.assert_close(lane_of(y, index), lone_y, rtol=0, atol=1e-12)
                torch.testing.assert_close(lane_of(grad, index), lone_grad, rtol=0, atol=1e-12)
        for index, layer in enumerate(alone):
            for name, tensor in layer.state_dict().items():
                mine = together.state_dict()[name].view(LANES, -1)[index].view(tensor.shape)
                torch.testing.assert_close(mine, tensor, rtol=0, atol=1e-12)
        x = draw(shape, 9, lanes=LANES)
        y = together.eval()(x)
        for index, layer in enumerate(alone):
            torch.testing.assert_close(lane_of(y, index), layer.eval()(lane_of(x, index)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("value", [math.nan, math.inf, 5.0])
@pytest.mark.parametrize("varied", VARIED)
def test_what_happens_in_one_lane_leaves_the_others_bit_identical(key, make, draw, shapes, varied, value):
    for shape in shapes(make(key)):
        first, second = (make(key, LANES, **stacked(settings(key, varied))) for _ in range(2))
        for seed in range(2):
            x = draw(shape, seed, lanes=LANES)
            disturbed = x.clone()
            disturbed[0, : shape[1]] = value
            (y, grad), (other_y, other_grad) = step(first, x, 0.01), step(second, disturbed, 0.01)
            for lane in (1, 2):
                assert torch.equal(lane_of(y, lane), lane_of(other_y, lane))
                assert torch.equal(lane_of(grad, lane), lane_of(other_grad, lane))
        for name, tensor in first.state_dict().items():
            mine, other = tensor.view(LANES, -1)[1:], second.state_dict()[name].view(LANES, -1)[1:]
            assert torch.equal(mine, other)


def test_a_lane_does_not_depend_on_its_position(key, make, draw, images):
    order = torch.tensor([2, 0, 1])
    there, here = make(key, LANES), make(key, LANES)
    with torch.no_grad():
        for name, parameter in here.named_parameters():
            parameter.copy_(there.get_parameter(name).view(LANES, -1)[order].view_as(parameter))
    x = draw(images, lanes=LANES).unflatten(1, (LANES, -1))
    y = there(x.flatten(1, 2)).unflatten(1, (LANES, -1))
    moved = here(x[:, order].flatten(1, 2)).unflatten(1, (LANES, -1))
    assert torch.equal(moved, y[:, order])


def test_a_number_of_values_other_than_the_lanes_is_refused(key):
    for name in {"eps", "momentum"} & set(norms.entry(key).arguments):
        with pytest.raises(
            norms.NormError, match=f"{name} must be one value or one per lane; got 2 values for 3 lanes"
        ):
            norms.build(key, 6, 3, **{name: [0.1, 0.2]})
