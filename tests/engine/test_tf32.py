"""TF32 is for convolutions and linear layers of the model. Products of norms and weight maps never use it."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from normbench import data, norms, weight_norms
from normbench.engine.stack import Stack

QUICK = [
    "model=lenet5", "data=synthetic", "data.train_size=64", "data.test_size=32", "data.channels=1",
    "data.size=32", "batch=8", "steps=10", "placement.sites=conv*",
]  # fmt: skip
#: Names of torch's operations that TF32 changes.
PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "addbmm", "mv", "addmv", "dot", "vdot", "convolution")
#: Methods with a product in every step.
MULTIPLY = {"dbn", "iternorm", "mode", "mixture", "bnet"}


class Narrow(TorchDispatchMode):
    """Lists products and convolutions of fp32 tensors, which TF32 would change; counts those of fp64."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow: list[str] = []
        self.wide = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function).removeprefix("aten.").partition(".")[0].removesuffix("_backward").strip("_")
        if name in PRODUCTS:
            given = [t for t in tree_leaves((args, kwargs or {})) if isinstance(t, torch.Tensor)]
            if any(t.dtype == torch.float32 for t in given):
                self.narrow.append(name)
            else:
                self.wide += 1
        return function(*args, **(kwargs or {}))


def stack_of(make_spec, *words: str) -> Stack:
    needed = ["norm.args.ghost_size=4"] if "norm=ghost" in words else []
    specs = [make_spec(*QUICK, *words, *needed, f"seed={seed}") for seed in (0, 1)]
    return Stack(specs, data.load(specs[0].data), torch.device("cpu"))


def outputs_and_gradients(layer: norms.Norm) -> list[torch.Tensor]:
    layer.begin_step(0, 10)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, layer.num_features, 6, 6, generator=generator).requires_grad_()
    y = layer(x)
    wanted = [x, *layer.parameters()]
    gradients = torch.autograd.grad(y, wanted, torch.randn(y.shape, generator=generator), allow_unused=True)
    return [y, *(g for g in gradients if g is not None)]


@pytest.mark.parametrize("key", norms.catalogue())
def test_tf32_never_reaches_products_of_a_norm_forward_or_backward(make_spec, key):
    layer = next(iter(stack_of(make_spec, f"norm={key}", "engine.precision=tf32").network.norms().values()))
    with Narrow() as seen:
        found = outputs_and_gradients(layer)
    assert seen.narrow == []
    assert (seen.wide > 0) == (key in MULTIPLY)
    assert all(t.dtype == torch.float32 for t in found)
    if key not in MULTIPLY:
        return
    plain = next(iter(stack_of(make_spec, f"norm={key}").network.norms().values()))
    for with_tf32, without in zip(found, outputs_and_gradients(plain), strict=True):
        torch.testing.assert_close(with_tf32, without, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("key", weight_norms.REGISTRY)
def test_tf32_never_reaches_products_of_a_weight_map(make_spec, key):
    stack = stack_of(make_spec, f"weight={key}", "engine.precision=tf32")
    layer = next(m for m in stack.network.modules() if isinstance(m, weight_norms.WeightNorm))
    owner = next(m for m in stack.network.modules() if getattr(m, "weight_norm", None) is layer)
    with Narrow() as seen:
        weight = layer(owner.weight)
        torch.autograd.grad(weight.square().sum() + weight.sum(), owner.weight)
    assert seen.narrow == []
    assert (seen.wide > 0) == (key == "spectral")
    assert weight.dtype == torch.float32


def test_whole_stacks_train_in_tf32_with_every_norm_that_multiplies(make_spec):
    for key in sorted(MULTIPLY):
        stack = stack_of(make_spec, f"norm={key}", "engine.precision=tf32")
        for number in range(2):
            stack.step(number)
        assert all(t.dtype != torch.float64 for t in stack.network.state_dict().values())
