"""What holds for every weight map, whatever it computes."""

from __future__ import annotations

import copy
import doctest
import inspect
import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest
import torch
from torch.func import functional_call

from normbench import weight_norms
from normbench.errors import InputError, NormError
from normbench.resolve import choices, declared

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
    assert torch.equal(layer(weight), layer(weight.float()).to(dtype))


def test_lanes_equal_lone_layers_over_several_steps(key, weights, stack):
    together, stacked = build(key, stack(weights), 3), stack(weights)
    alone = [(build(key, stack([weight]), 1), stack([weight])) for weight in weights]
    for _ in range(4):
        effective, stacked = step(together, stacked)
        results = [step(layer, weight) for layer, weight in alone]
        wanted = torch.cat([e for e, _ in results])
        torch.testing.assert_close(effective, wanted, rtol=0, atol=1e-12)
        alone = [(layer, weight) for (layer, _), (_, weight) in zip(alone, results, strict=True)]
    for name, parameter in together.named_parameters():
        lanes = torch.cat([layer.get_parameter(name) for layer, _ in alone])
        torch.testing.assert_close(parameter, lanes, rtol=0, atol=1e-12)


def test_a_broken_lane_leaves_the_others_bit_identical(key, weights, stack):
    weight = stack(weights)
    broken = weight.clone()
    share = weight.shape[0] // 3
    broken[:share] = torch.nan
    (effective, after), (other, other_after) = (
        step(build(key, weight, 3), weight),
        step(build(key, weight, 3), broken),
    )
    assert torch.equal(effective[share:], other[share:])
    assert torch.equal(after[share:], other_after[share:])


def test_gradients_agree_with_finite_differences(key, weights, stack):
    weight = stack(weights).requires_grad_()
    layer = build(key, weight, 3)
    names = [name for name, _ in layer.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in layer.parameters()]

    def call(weight, *values):
        return functional_call(layer, dict(zip(names, values, strict=True)), (weight,))

    assert torch.autograd.gradcheck(call, (weight, *values))


def test_memory_layout_does_not_matter(key, weights, stack):
    weight = stack(weights)
    layer = build(key, weight, 3)
    turned = weight.transpose(-1, -2).contiguous().transpose(-1, -2)
    assert turned.stride() != weight.stride()
    torch.testing.assert_close(layer(turned), layer(weight), rtol=0, atol=1e-14)


def test_evaluation_is_training_and_the_weight_is_left_alone(key, weights, stack):
    weight = stack(weights)
    layer, before = build(key, weight, 3), weight.clone()
    assert torch.equal(layer.train()(weight), layer.eval()(weight))
    assert torch.equal(weight, before)


def test_a_saved_map_gives_the_same_weight(key, weights, stack):
    weight = stack(weights)
    layer = build(key, weight, 3)
    _, weight = step(layer, weight)
    other = build(key, stack(weights), 3)
    other.load_state_dict(copy.deepcopy(layer.state_dict()))
    assert torch.equal(other(weight), layer(weight))


def test_parameters_are_lane_major_and_have_a_role(key, weights, stack):
    layer = build(key, stack(weights), 3)
    assert {name for name, _ in layer.named_parameters()} == set(layer.roles)
    assert all(parameter.shape[0] % 3 == 0 for parameter in layer.parameters())


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


@pytest.mark.parametrize("module", ["", *(f".{m.name}" for m in iter_modules(weight_norms.__path__))])
def test_the_examples_in_docstrings_hold(module):
    assert doctest.testmod(import_module(f"normbench.weight_norms{module}")).failed == 0


def test_an_unknown_map_offers_the_nearest(weights, stack):
    with pytest.raises(InputError, match="unknown weight 'wm'; nearest: ws, wn"):
        weight_norms.build("wm", stack(weights), 3)


@pytest.mark.parametrize(("shape", "lanes"), [((6, 5), 3), ((2, 6, 5), 3), ((4, 2, 3, 3), 3)])
def test_a_weight_of_other_lanes_is_refused(key, shape, lanes):
    with pytest.raises(
        NormError, match=rf"{key}: a stacked weight must be .* got \({shape[0]}, .* for 3 lanes"
    ):
        weight_norms.build(key, torch.ones(shape), lanes)
