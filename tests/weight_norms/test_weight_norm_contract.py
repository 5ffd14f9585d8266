"""Contracts that every weight map must meet."""

from __future__ import annotations

import copy
import doctest
import inspect
import re
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest
import torch
from torch.func import functional_call

from normbench import weight_norms
from normbench.config.resolve import choices, declared
from normbench.errors import InputError, NormError

ROOT = Path(__file__).parents[2]


def step(layer, weight, lr: float = 0.1):
    """One step of gradient descent on a fixed projection: the effective weight before, the weight after."""
    weight = weight.clone().requires_grad_()
    effective = layer(weight)
    pattern = torch.sin(torch.arange(weight[0].numel(), dtype=weight.dtype)).view(weight[0].shape)
    grads = torch.autograd.grad((effective * pattern).sum(), [weight, *layer.parameters()])
    with torch.no_grad():
        for parameter, grad in zip(layer.parameters(), grads[1:], strict=True):
            parameter -= lr * grad
        return effective.detach(), weight - lr * grads[0]


def state(layer) -> dict[str, torch.Tensor]:
    """Everything that a map carries from step to step."""
    return {name: tensor.clone() for name, tensor in layer.state_dict().items()}


def build(key, weight, lanes):
    """The map as packaged, in the weight's precision."""
    return weight_norms.build(key, weight, lanes, declared("weight", key)["eps"]).to(weight.dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_shape_and_dtype_are_kept(key, weights, stack, dtype):
    weight = stack(weights)
    layer = weight_norms.build(key, weight.float(), 3).to(dtype if dtype == torch.float64 else torch.float32)
    effective = layer(weight.to(dtype))
    assert (effective.shape, effective.dtype) == (weight.shape, dtype)
    assert effective.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_enters_and_leaves_but_filters_are_wide(key, weights, stack, dtype):
    weight = (100 * stack(weights)).to(dtype)  # squared lengths overflow fp16
    layer = weight_norms.build(key, weight.float(), 3)
    wide = copy.deepcopy(layer)  # a pass in training may move the state
    assert torch.equal(layer(weight), wide(weight.float()).to(dtype))


def test_lanes_equal_lone_layers_over_several_steps(key, weights, stack):
    together, stacked = build(key, stack(weights), 3), stack(weights)
    alone = [(build(key, stack([weight]), 1), stack([weight])) for weight in weights]
    for _ in range(4):
        effective, stacked = step(together, stacked)
        results = [step(layer, weight) for layer, weight in alone]
        wanted = torch.cat([e for e, _ in results])
        torch.testing.assert_close(effective, wanted, rtol=0, atol=1e-12)
        alone = [(layer, weight) for (layer, _), (_, weight) in zip(alone, results, strict=True)]
    for name, tensor in state(together).items():
        lanes = torch.cat([state(layer)[name] for layer, _ in alone])
        torch.testing.assert_close(tensor, lanes, rtol=0, atol=1e-12)


@pytest.mark.parametrize("from_the_start", [True, False])
def test_a_broken_lane_leaves_the_others_bit_identical(key, weights, stack, from_the_start):
    weight = stack(weights)
    broken = weight.clone()
    share = weight.shape[0] // 3
    broken[:share] = torch.nan
    clean, other = build(key, weight, 3), build(key, broken if from_the_start else weight, 3)
    (effective, after), (other_effective, other_after) = step(clean, weight), step(other, broken)
    assert torch.equal(effective[share:], other_effective[share:])
    assert torch.equal(after[share:], other_after[share:])
    for name, tensor in state(clean).items():
        sound = len(tensor) // 3
        assert torch.equal(tensor[sound:], state(other)[name][sound:])


def test_gradients_agree_with_finite_differences(key, weights, stack):
    weight = stack(weights).requires_grad_()
    layer = build(key, weight, 3).eval()  # finite differences call it many times: its state must stay
    names = [name for name, _ in layer.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in layer.parameters()]

    def call(weight, *values):
        return functional_call(layer, dict(zip(names, values, strict=True)), (weight,))

    assert torch.autograd.gradcheck(call, (weight, *values))


def test_memory_layout_does_not_matter(key, weights, stack):
    weight = stack(weights)
    layer = build(key, weight, 3).eval()
    turned = weight.transpose(-1, -2).contiguous().transpose(-1, -2)
    assert turned.stride() != weight.stride()
    torch.testing.assert_close(layer(turned), layer(weight), rtol=0, atol=1e-14)


def test_evaluation_is_training_with_the_state_as_it_is(key, weights, stack):
    weight = stack(weights)
    layer, before = build(key, weight, 3), weight.clone()
    assert torch.equal(layer.train()(weight), layer.eval()(weight))
    assert torch.equal(weight, before)


def test_evaluation_leaves_the_state_alone_and_training_moves_all_of_it(key, weights, stack):
    weight = stack(weights)
    layer = build(key, weight, 3)
    buffers = dict(layer.named_buffers())
    before = state(layer)
    moved = 1 + torch.sin(torch.arange(weight.numel(), dtype=weight.dtype)).view(weight.shape)
    layer.eval()(moved * weight)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state(layer).items())
    layer.train()(moved * weight)
    assert not any(torch.equal(tensor, before[name]) for name, tensor in buffers.items())


def test_a_saved_map_goes_on_in_the_same_bits(key, weights, stack):
    weight = stack(weights)
    layer = build(key, weight, 3)
    _, weight = step(layer, weight)
    other = build(key, stack(weights), 3)
    other.load_state_dict(copy.deepcopy(layer.state_dict()))
    for _ in range(3):
        assert torch.equal(other(weight), layer(weight))
        weight = 0.9 * weight + 0.1 * weight.flip(-1)


def test_parameters_and_state_are_lane_major_and_parameters_have_a_role(key, weights, stack):
    layer = build(key, stack(weights), 3)
    assert {name for name, _ in layer.named_parameters()} == set(layer.roles)
    assert all(tensor.shape[0] % 3 == 0 for tensor in layer.state_dict().values())
    assert all(name in layer.state_dict() for name, _ in layer.named_buffers())


def test_the_scale_of_the_effective_weight_follows_what_is_declared(key, weights, stack):
    weight = stack(weights)
    layer = build(key, weight, 3).eval()
    effective, doubled = layer(weight), layer(2 * weight)
    wanted = 2 * effective if layer.scale == "weight" else effective
    torch.testing.assert_close(doubled, wanted, rtol=1e-4, atol=0)  # but for ε
    assert ("gain" in layer.roles) == (layer.scale == "gain")


#: Changes of the stored weight that the effective weight ignores, ε aside. Scale: one factor for the whole
#: weight; filters: one per filter; shift: one number added to every value.
INVARIANT = {
    "centered": {"shift"}, "none": set(), "scaled_ws": {"scale", "filters", "shift"}, "spectral": {"scale"},
    "wn": {"scale", "filters"}, "ws": {"scale", "filters", "shift"},
}  # fmt: skip


def test_every_map_declares_its_invariances():
    assert INVARIANT.keys() == weight_norms.catalogue().keys()
    for key, changes in INVARIANT.items():
        assert ("scale" in changes) == (weight_norms.entry(key).scale != "weight")


@pytest.mark.parametrize("change", ["scale", "filters", "shift"])
def test_declared_invariances_hold_and_no_others(key, weights, stack, change):
    """In both directions. If a factor c is ignored, the gradient is divided by it."""
    weight = stack(weights)
    layer = weight_norms.build(key, weight, 3).to(weight.dtype).eval()
    if hasattr(layer, "eps"):
        layer.eps = 1e-12
    numbers = torch.linspace(0.5, 4, 12, dtype=torch.float64)
    one_each = numbers.view(3, 4, 1) if weight.dim() == 3 else numbers.view(12, 1, 1, 1)
    factors = {"scale": torch.full_like(one_each, 3.0), "filters": one_each}.get(change)
    changed = weight + 0.7 if factors is None else weight * factors
    pattern = torch.sin(torch.arange(weight.numel(), dtype=weight.dtype)).view(weight.shape)
    outputs, gradients = [], []
    for given in (weight, changed):
        leaf = given.clone().requires_grad_()
        effective = layer(leaf)
        outputs.append(effective.detach())
        gradients += torch.autograd.grad((effective * pattern).sum(), leaf)
    declared = change in INVARIANT[key]
    assert torch.allclose(*outputs, rtol=0, atol=1e-9) == declared
    if declared:
        wanted = gradients[0] if factors is None else gradients[0] / factors
        torch.testing.assert_close(gradients[1], wanted, rtol=0, atol=1e-9)


def test_rescaling_multiplies_the_effective_weight_of_each_lane(key, weights, stack):
    weight, factors = stack(weights), torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
    layer = build(key, weight, 3).eval()
    if layer.scale == "fixed":
        with pytest.raises(NormError, match=f"{key}: the map fixes the scale"):
            layer.rescale(weight, factors)
        return
    wanted = layer(weight).unflatten(0, (3, -1)) * factors.view(3, *(1,) * weight.dim())
    layer.rescale(weight, factors)
    torch.testing.assert_close(layer(weight), wanted.view_as(weight), rtol=1e-14, atol=0)


def test_a_map_builds_without_data(key):
    with torch.device("meta"):
        weight = torch.empty(2, 10, 84)
        assert weight_norms.build(key, weight, 2)(weight).shape == weight.shape


def test_every_map_has_a_configuration_and_every_configuration_a_map(key):
    assert list(weight_norms.catalogue()) == choices("weight")
    knobs = declared("weight", key)
    assert list(knobs) == ["name", "eps"]
    default = inspect.signature(weight_norms.entry(key)).parameters.get("eps")
    assert knobs == {"name": key, "eps": default and default.default}


def test_docstrings_follow_the_template_and_cite_the_bibliography(key):
    kind = weight_norms.entry(key)
    doc = inspect.getdoc(kind)
    for section in ("Shape:", "Args:", "Raises:", f"Reference:  {kind.reference} — "):
        assert re.search(rf"^{re.escape(section)}", doc, re.MULTILINE), (
            f"weight={key} says nothing under {section}"
        )
    assert (ROOT / "docs" / "references.bib").read_text().count(f"{{{kind.reference},") == 1


@pytest.mark.parametrize(
    "module",
    [
        weight_norms.__name__,
        *(m.name for m in walk_packages(weight_norms.__path__, f"{weight_norms.__name__}.")),
    ],
)
def test_the_examples_in_docstrings_hold(module):
    assert doctest.testmod(import_module(module)).failed == 0


def test_an_unknown_map_offers_the_nearest(weights, stack):
    with pytest.raises(InputError, match="unknown weight 'wm'; nearest: ws, wn"):
        weight_norms.build("wm", stack(weights), 3)


@pytest.mark.parametrize(("shape", "lanes"), [((6, 5), 3), ((2, 6, 5), 3), ((4, 2, 3, 3), 3)])
def test_a_weight_of_other_lanes_is_refused(key, shape, lanes):
    with pytest.raises(
        NormError, match=rf"{key}: a stacked weight must be .* got \({shape[0]}, .* for 3 lanes"
    ):
        weight_norms.build(key, torch.ones(shape), lanes)
