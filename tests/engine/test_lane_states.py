"""The state of a run leaves its lane and returns to the lane that the run then has, and no other."""

from __future__ import annotations

import pytest
import torch

from normbench import data
from normbench.engine.final_state import final_states, load_final_states
from normbench.engine.stack import Stack
from normbench.engine.state import load_lanes, save_lanes

WORDS = [
    "model=mlp", "model.hidden=[6,5]", "data=synthetic", "data.train_size=40", "data.test_size=10",
    "data.channels=1", "data.size=4", "batch=8", "steps=10", "engine.precision=fp64", "model.dropout=0.2",
]  # fmt: skip
#: Three runs of three lanes, and three pairs of runs in two lanes with three banks each.
RUNS = {
    "lanes": [["seed=0"], ["seed=1"], ["seed=2"]],
    "banks": [
        ["seed=0", "norm.momentum=0.1"], ["seed=1", "norm.momentum=0.1"],
        ["seed=0", "norm.momentum=0.4"], ["seed=1", "norm.momentum=0.4"],
        ["seed=0", "norm.momentum=0.7"], ["seed=1", "norm.momentum=0.7"],
    ],
}  # fmt: skip


def trained(make_spec, runs, optim, steps):
    specs = [make_spec(*WORDS, f"optim={optim}", *own) for own in runs]
    stack = Stack(specs, data.load(specs[0].data), torch.device("cpu"))
    for step in range(steps):
        stack.step(step)
    return stack, specs


def states_of(stack):
    histories = [[{"step": 3, "run": number}] for number in range(len(stack.assignment.of))]
    return save_lanes(stack.network, stack.optimizer, stack.meters, stack.assignment, 3, histories)


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("optim", ["sgd", "adamw"])
@pytest.mark.parametrize("runs", RUNS.values(), ids=RUNS)
def test_states_return_in_another_order_and_go_on_as_if_nothing_had_happened(make_spec, runs, optim):
    stack, _ = trained(make_spec, runs, optim, 3)
    states = states_of(stack)
    assert not any(equal(states[0]["tensors"], state["tensors"]) for state in states[1:])
    turned, _ = trained(make_spec, runs[::-1], optim, 0)
    parts = (turned.network, turned.optimizer, turned.meters, turned.assignment)
    assert load_lanes(*parts, states[::-1]) == 3
    assert [state["history"][0]["run"] for state in states] == list(range(len(runs)))
    for mine, before in zip(states_of(turned), states[::-1], strict=True):
        assert equal(mine["tensors"], before["tensors"])
    for step in range(3, 10):
        stack.step(step)
        turned.step(step)
    for mine, other in zip(states_of(turned)[::-1], states_of(stack), strict=True):
        for name, tensor in mine["tensors"].items():
            torch.testing.assert_close(tensor, other["tensors"][name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("optim", ["sgd", "adamw"])
@pytest.mark.parametrize("runs", RUNS.values(), ids=RUNS)
def test_a_state_is_that_of_the_run_alone(make_spec, runs, optim):
    stack, _ = trained(make_spec, runs, optim, 3)
    for own, state, final in zip(
        runs, states_of(stack), final_states(stack.network, stack.assignment), strict=True
    ):
        alone, _ = trained(make_spec, [own], optim, 3)
        (lone,) = states_of(alone)
        assert lone["tensors"].keys() == state["tensors"].keys()
        for name, tensor in lone["tensors"].items():
            torch.testing.assert_close(state["tensors"][name], tensor, rtol=1e-9, atol=1e-12)
            if name in final:
                assert torch.equal(final[name], state["tensors"][name])


@pytest.mark.parametrize("runs", RUNS.values(), ids=RUNS)
def test_final_states_return_to_the_lanes_and_banks_of_their_runs(make_spec, runs):
    stack, _ = trained(make_spec, runs, "sgd", 3)
    states = final_states(stack.network, stack.assignment)
    turned, _ = trained(make_spec, runs[::-1], "sgd", 0)
    load_final_states(turned.network, turned.assignment, states[::-1])
    for mine, before in zip(final_states(turned.network, turned.assignment), states[::-1], strict=True):
        assert equal(mine, before)
