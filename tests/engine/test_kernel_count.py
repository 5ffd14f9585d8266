"""Kernels of a step: how many operations start one on a GPU, counted on a CPU. And what the host does beside
them.
"""

from __future__ import annotations

import time
from statistics import median

import pytest
import torch

from engine.kernels import Kernels
from normbench import data
from normbench.engine import optim
from normbench.engine.stack import Stack
from normbench.models import network
from normbench.norms.methods import bn

QUICK = [
    "data=synthetic", "data.train_size=64", "data.test_size=32", "data.size=32", "batch=2", "steps=10",
]  # fmt: skip
LENET5 = ["model=lenet5", "data.channels=1"]
RESNET20 = ["model=resnet20", "data.channels=3", "data.crop=4", "data.flip=true"]


@pytest.fixture
def as_on_a_gpu(monkeypatch) -> None:
    """A CPU takes the paths of a GPU."""
    monkeypatch.setattr(optim, "TOGETHER_ON", ("cpu", "cuda"))


def trained(make_spec, *words: str, own: list[list[str]], steps: int) -> Stack:
    specs = [make_spec(*QUICK, *words, *lane, f"seed={seed}") for seed, lane in enumerate(own)]
    made = Stack(specs, data.load(specs[0].data), torch.device("cpu"))
    for number in range(steps):
        made.step(number)
    return made


def kernels(made: Stack) -> int:
    made.batches.seek(2)
    made.network.begin_step(2, 10)
    with Kernels() as seen:
        made.step._perform()
    return seen.calls.total()


@pytest.mark.parametrize(
    ("words", "most"),
    [
        ([*LENET5, "norm=none"], 64), ([*LENET5, "norm=bn"], 76), ([*LENET5, "norm=gn"], 70),
        ([*RESNET20, "norm=none"], 152), ([*RESNET20, "norm=bn"], 215), ([*RESNET20, "norm=gn"], 190),
    ],
    ids=str,
)  # fmt: skip
def test_a_step_starts_few_kernels(make_spec, as_on_a_gpu, words, most):
    assert kernels(trained(make_spec, *words, own=[[], [], []], steps=2)) <= most


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw", "rmsprop"])
def test_more_learning_rates_cost_no_further_kernel(make_spec, as_on_a_gpu, optimiser):
    counts = []
    for lanes in (2, 16):
        own = [[f"optim.lr={0.01 * (1 + lane)}"] for lane in range(lanes)]
        counts.append(kernels(trained(make_spec, *LENET5, f"optim={optimiser}", own=own, steps=2)))
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("words", "own", "shared"),
    [
        ([], [[], [], []], True),
        ([], [["norm.momentum=0.1"], ["norm.momentum=0.3"], ["norm.momentum=cumulative"]], True),
        (["norm.momentum=linear:0.5:0.1"], [[], []], True),
        (["norm.momentum=debiased:0.1"], [[]], True),
        (["optim.ema=0.9"], [[], []], True),
        (["norm.args.variance=biased"], [[], []], False),
        (["workers=2"], [[], []], False),
        (["norm=cbn"], [[], []], False),
    ],
    ids=str,
)
def test_shared_running_statistics_have_the_bits_of_separate_ones(make_spec, monkeypatch, words, own, shared):
    words = [*LENET5, *([] if "norm=cbn" in words else ["norm=bn"]), *words]
    together = trained(make_spec, *words, own=own, steps=4)
    monkeypatch.setattr(network, "can_share", lambda layer, images: False)
    separate = trained(make_spec, *words, own=own, steps=4)
    assert (together.network.shared is not None) == shared
    states = separate.network.state_dict(), together.network.state_dict()
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


def test_batch_norm_takes_half_precision_without_casts_and_keeps_its_statistics_in_fp32(
    make_spec, as_on_a_gpu, monkeypatch
):
    words, own = [*LENET5, "norm=bn", "engine.precision=bf16"], [[], []]
    with_casts = trained(make_spec, *words, own=own, steps=2)
    counted = kernels(with_casts)
    monkeypatch.setattr(bn, "HALVES_ON", ("cpu",))
    without = trained(make_spec, *words, own=own, steps=2)
    # four norms, each with a cast before and after it, forward and backward
    assert counted - kernels(without) == 16
    states = with_casts.network.state_dict(), without.network.state_dict()
    for name, tensor in states[0].items():
        assert states[1][name].dtype == tensor.dtype != torch.bfloat16
        torch.testing.assert_close(states[1][name], tensor, rtol=0.05, atol=0.05)


#: Settings that are written into tensors before every step.
WRITTEN = {
    "constant": ["norm=bn"],
    "scheduled momentum": ["norm=bn", "norm.momentum=linear:0.5:0.1"],
    "debiased momentum": ["norm=bn", "norm.momentum=debiased:0.1"],
    "renorm": ["norm=brn"],
    "dropout and cosine": ["norm=bn", "model.dropout=0.1", "schedule=cosine"],
}


def beside(made: Stack, number: int) -> None:
    """What the host does in a step beside the replay of the graph."""
    made.network.begin_step(number, made.steps)
    made.batches.seek(number)
    made.optimizer.begin_step(0.5)
    made.network.phase(number, made.steps)


def calls_beside(made: Stack) -> int:
    with Kernels() as seen:
        beside(made, 3)
    return seen.calls.total()


@pytest.mark.parametrize("words", WRITTEN.values(), ids=WRITTEN)
def test_the_host_makes_as_many_calls_for_many_lanes_as_for_two(make_spec, as_on_a_gpu, words):
    few, many = ([[f"optim.lr={0.01 * (1 + lane)}"] for lane in range(lanes)] for lanes in (2, 12))
    net = ["model=mlp", "model.hidden=[8,8]", "data.channels=1"]
    counts = [calls_beside(trained(make_spec, *net, *words, own=own, steps=1)) for own in (few, many)]
    assert counts[0] == counts[1]


def test_the_host_makes_as_many_calls_for_many_banks_as_for_one(make_spec):
    def banked(banks: int) -> Stack:
        own = [f"norm.momentum=linear:{0.9 / (1 + bank)}:0.01" for bank in range(banks)]
        specs = [make_spec(*QUICK, *LENET5, "norm=bn", momentum, "seed=0") for momentum in own]
        made = Stack(specs, data.load(specs[0].data), torch.device("cpu"))
        made.step(0)
        return made

    assert calls_beside(banked(2)) == calls_beside(banked(9))


@pytest.mark.slow
@pytest.mark.parametrize("words", WRITTEN.values(), ids=WRITTEN)
def test_the_host_is_as_quick_for_256_lanes_as_for_one(make_spec, as_on_a_gpu, words):
    quick = ["model=mlp", "model.hidden=[8,8]", "data.channels=1", *QUICK]
    stacks = []
    for lanes in (1, 256):
        specs = [make_spec(*quick, *words, f"seed={seed}") for seed in range(lanes)]
        stacks.append(Stack(specs, data.load(specs[0].data), torch.device("cpu")))
        stacks[-1].step(0)
    ratios = []
    for number in range(1, 200):
        times = []
        for made in stacks:
            began = time.process_time()
            for _ in range(5):
                beside(made, 1 + number % 9)
            times.append(time.process_time() - began)
        ratios.append(times[1] / times[0])
    assert median(ratios) <= 1.2


def test_only_nets_with_filters_get_images_in_channels_last(make_spec):
    """A net without them would copy the images of every step before its first product."""
    for model, last in ((["model=mlp", "data.channels=1"], False), (LENET5, True)):
        x, _ = trained(make_spec, *model, "norm=bn", own=[[], []], steps=1).batches.read()
        assert x.is_contiguous(memory_format=torch.channels_last) is last
        assert x.is_contiguous() is not last
