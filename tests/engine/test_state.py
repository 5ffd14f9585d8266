"""The state of a run: what leaves a stack comes back bit for bit, in the same stack or in another one."""

from __future__ import annotations

import pytest
import torch

from normbench import data
from normbench.engine.final_state import final_states, load_final_states
from normbench.engine.stack import Stack
from normbench.engine.state import load_lanes, save_lanes

CPU = torch.device("cpu")
WORDS = ["model=mlp", "model.hidden=[6]", "data=synthetic", "data.train_size=64", "data.size=8", "batch=8"]
RUNS = [("seed=0", "norm.momentum=0.1"), ("seed=0", "norm.momentum=0.5"), ("seed=1", "norm.momentum=0.1")]


def stack(make_spec, *words, runs=RUNS):
    """A stack of two lanes, the first with two banks, by default."""
    specs = [make_spec(*WORDS, "steps=8", *run, *words) for run in runs]
    return Stack(specs, data.load(specs[0].data), CPU)


def checkpoint(stack, step=0):
    histories = [[] for _ in stack.assignment.of]
    return save_lanes(stack.network, stack.optimizer, stack.meters, stack.assignment, step, histories)


def resume(stack, states):
    return load_lanes(stack.network, stack.optimizer, stack.meters, stack.assignment, states)


def test_runs_move_to_a_stack_in_another_order_and_keep_their_bits(make_spec):
    trained = stack(make_spec)
    for step in range(3):
        trained.step(step)
    states = checkpoint(trained, 3)
    means = {float(state["tensors"][name].sum()) for state in states for name in running_means(state)}
    assert len(means) == 3  # every run has its own statistics
    other = stack(make_spec, runs=RUNS[::-1])
    assert resume(other, states[::-1]) == 3
    for one, two in zip(checkpoint(other, 3)[::-1], states, strict=True):
        assert one["tensors"].keys() == two["tensors"].keys()
        assert all(torch.equal(one["tensors"][name], t) for name, t in two["tensors"].items())


def running_means(state):
    return [name for name in state["tensors"] if name.endswith("running_mean")]


def test_a_final_state_is_the_part_of_a_checkpoint_that_belongs_to_the_network(make_spec):
    trained = stack(make_spec)
    for step in range(3):
        trained.step(step)
    finals = final_states(trained.network, trained.assignment)
    for final, state in zip(finals, checkpoint(trained, 3), strict=True):
        assert final.keys() < state["tensors"].keys()
        assert all(torch.equal(t, state["tensors"][name]) for name, t in final.items())
    other = stack(make_spec, runs=RUNS[::-1])
    load_final_states(other.network, other.assignment, finals[::-1])
    for one, two in zip(final_states(other.network, other.assignment)[::-1], finals, strict=True):
        assert all(torch.equal(one[name], t) for name, t in two.items())


@pytest.mark.parametrize(
    ("words", "message"),
    [(["norm=gn"], "belongs to another network$"), (["model.hidden=[1]"], "has another shape")],
)
def test_a_state_of_another_network_is_refused(make_spec, words, message):
    one, other = stack(make_spec), stack(make_spec, *words)
    with pytest.raises(ValueError, match=message):
        resume(one, checkpoint(other)[: len(RUNS)])
    with pytest.raises(ValueError, match=message):
        load_final_states(one.network, one.assignment, final_states(other.network, other.assignment))


def test_a_state_is_a_copy(make_spec):
    trained = stack(make_spec)
    (state, *_) = final_states(trained.network, trained.assignment)
    before = {name: t.clone() for name, t in state.items()}
    trained.step(0)
    assert all(torch.equal(state[name], t) for name, t in before.items())
