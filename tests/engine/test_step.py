"""A step is the same operations on the same memory every time, so that a GPU can replay it as a graph."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from normbench import data, norms, weight_norms
from normbench.data.batches import Batches
from normbench.engine import update_rules
from normbench.engine.meters import Meters
from normbench.engine.optim import Optimizer
from normbench.engine.stack import Stack
from normbench.engine.step import Step
from normbench.norms.ema import MovingAverage

CPU = torch.device("cpu")
QUICK = [
    "model=lenet5", "data=synthetic", "data.train_size=64", "data.test_size=32", "data.channels=1",
    "data.size=32", "batch=8", "steps=10", "schedule=cosine",
]  # fmt: skip
#: Settings that a method needs if its defaults do not fit all sites of LeNet-5 at this batch.
NEEDED = {
    "bin": ["placement.sites=conv*"],
    "bnet": ["placement.sites=conv*"],
    "dbn": ["placement.sites=conv*"],
    "in": ["placement.sites=conv*"],
    "ghost": ["norm.args.ghost_size=4"],
}
WORDS = {
    **{key: [f"norm={key}", *NEEDED.get(key, [])] for key in norms.catalogue()},
    **{f"weight {key}": [f"weight={key}"] for key in weight_norms.REGISTRY},
    "momentum": ["norm.momentum=debiased:0.1"],
    "schedule": ["norm.momentum=linear:0.5:0.1"],
    "adamw": ["optim=adamw", "optim.clip=1.0"],
    "adam": ["optim=adam"],
    "rmsprop": ["optim=rmsprop", "optim.momentum=0.9", "optim.weight_decay=0.1"],
    "gamma_l1": ["optim.gamma_l1=1e-4", "optim.train=norm"],
    "average": ["norm=gn", "optim.ema=0.9"],
    "fp16": ["engine.precision=fp16"],
    "fp16 adamw": ["engine.precision=fp16", "optim=adamw"],
    "crop and flip": ["data.crop=2", "data.flip=true"],
    "workers": ["batch=4", "workers=2"],
    "dropout": ["model=vgg11", "data.channels=3", "model.dropout=0.5"],
    "residual": ["model=resnet20", "data.channels=3", "placement=norm_act_conv"],
    "skipinit": ["model=resnet20", "data.channels=3", "norm=none", "model.branch=skipinit"],
}


def stack_of(make_spec, *words: str, device: torch.device = CPU) -> Stack:
    specs = [
        make_spec(*QUICK, *words, f"seed={seed}", f"norm.eps={eps}") for seed, eps in ((0, 1e-5), (1, 1e-3))
    ]
    return Stack(specs, data.load(specs[0].data).to(device), device)


class Journal(TorchDispatchMode):
    """Records every operation: its name, its arguments, and the memory from outside the step that it uses."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[object, ...]] = []
        self._made: dict[int, torch.Tensor] = {}  # kept alive, so that their memory is not reused

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = tree_leaves((args, kwargs or {}))
        memory = [t.untyped_storage().data_ptr() for t in given if isinstance(t, torch.Tensor)]
        rest = [repr(each) for each in given if not isinstance(each, torch.Tensor)]
        outside = ["own" if place in self._made else place for place in memory]
        self.lines.append((str(function), *outside, *rest))
        out = function(*args, **(kwargs or {}))
        for made in tree_leaves(out):
            if isinstance(made, torch.Tensor) and (place := made.untyped_storage().data_ptr()) not in memory:
                self._made[place] = made
        return out


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_a_step_is_the_same_operations_on_the_same_memory(make_spec, monkeypatch, words):
    stack = stack_of(make_spec, *words, "engine.graphs=false")
    perform, journals = stack.step._perform, {}

    def written() -> None:
        with Journal() as journal:
            perform()
        # the first step of a phase may create tensors for the later ones, as the warm-up of a capture does
        journals.setdefault(stack.network.phase(step, 10), []).append(journal.lines)

    monkeypatch.setattr(stack.step, "_perform", written)
    for step in range(10):
        stack.step(step)
    assert sum(map(len, journals.values())) == 10
    waits = {"aten._local_scalar_dense.default", "aten.lift_fresh.default", "aten.is_nonzero.default"}
    for _, *later in journals.values():
        assert all(lines == later[0] for lines in later)
        names = {name for lines in later for name, *_ in lines}
        assert not waits & names, "the host would wait for the device or send to it"


def test_norms_whose_forward_pass_changes_midway_have_two_phases(make_spec):
    for key, change in (("frozen", "after"), ("cbn", "burn_in"), ("mabn", "warmup"), ("power", "warmup")):
        network = stack_of(make_spec, f"norm={key}", f"norm.args.{change}=0.25").network
        phases = [network.phase(step, 1000) for step in range(1000)]
        assert phases == [0] * 250 + [1] * 750
    assert stack_of(make_spec, "norm=bn").network.phase(999, 1000) == 0


def on_fake_gpu(mode: FakeTensorMode, tensor: torch.Tensor) -> torch.Tensor:
    return mode.from_tensor(tensor.data).to("cuda")


def has_fake_gpu() -> bool:
    """Whether this torch has fake tensors on a GPU without a driver. Version 2.6 needs a driver."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        try:
            on_fake_gpu(mode, torch.zeros(1))
        except RuntimeError:
            return False
    return True


@pytest.mark.skipif(not has_fake_gpu(), reason="this torch needs a driver even for fake tensors")
@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_a_step_never_mixes_devices_and_never_waits_for_a_value(make_spec, monkeypatch, words):
    """Fake tensors on a GPU have no values. An operation that mixes devices or needs a value raises.

    Autocast, the backward pass and the optimisers' kernels need a driver and are left out.
    """
    stack = stack_of(make_spec, *words, "engine.graphs=false")
    dataset = data.load(stack.spec.data)
    monkeypatch.setattr(torch, "_fused_sgd_", lambda *args, **settings: None)
    for kernel in ("adam", "adamw"):
        monkeypatch.setattr(update_rules, kernel, lambda *args, **settings: None)
    monkeypatch.setattr(torch.autograd, "grad", no_gradients)
    monkeypatch.setattr("normbench.engine.step.casting", lambda engine, device: nullcontext())
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        gpu = partial(on_fake_gpu, mode)
        images = {n: gpu(t) for n, t in vars(dataset).items() if isinstance(t, torch.Tensor)}
        step = stack.step
        for module in stack.network.modules():
            module._parameters = {
                n: p if p is None else nn.Parameter(gpu(p)) for n, p in module._parameters.items()
            }
            module._buffers = {n: b if b is None else gpu(b) for n, b in module._buffers.items()}
            for average in vars(module).values():
                if isinstance(average, MovingAverage):
                    average.apply(gpu)
        stack.network.add_average(stack.spec.optim.ema)
        parameters = dict(stack.network.named_parameters())
        optimizer = Optimizer(parameters, stack.network.roles(), stack.assignment.lanes)
        batches = Batches(
            replace(dataset, **images),
            (0, 1),
            stack.spec.total,
            crop=stack.spec.data.crop,
            flip=stack.spec.data.flip,
        )
        meters = Meters(2, stack.spec.total, torch.device("cuda"))
        step = Step(stack.spec, 10, stack.network, optimizer, batches, meters)
        for number in range(3):
            step(number)
        assert meters.loss.device.type == "cuda"


def no_gradients(outputs, inputs, *args, **how):
    return [torch.zeros_like(t) for t in ([inputs] if isinstance(inputs, torch.Tensor) else inputs)]
