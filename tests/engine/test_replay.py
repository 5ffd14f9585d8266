"""Replayed steps on a CPU equal steps that are taken with modules and autograd, to the last bit."""

from __future__ import annotations

import gc
import sys
import weakref
from collections import Counter

import pytest
import torch

from engine.test_step import WORDS, stack_of
from normbench import data
from normbench.engine.replay import FIRST_CHECK, Replays
from normbench.engine.train import train_stack
from normbench.errors import RunFailure
from normbench.models.layers import Linear

CPU = torch.device("cpu")
FURTHER = {
    "decay and milestones": ["schedule=step", "schedule.milestones=[0.3,0.6]", "schedule.warmup=0.2"],
    "bf16": ["engine.precision=bf16"],
    "fp64": ["engine.precision=fp64", "optim.nesterov=true"],
    "no momentum": ["optim.momentum=0", "optim.weight_decay=0"],
    "matmul": ["engine.convolution=matmul"],
    "lone": ["engine.convolution=lone"],
    "contiguous": ["engine.layout=contiguous"],
    "label smoothing": ["optim.label_smoothing=0.1"],
    "class pure": ["data.sampling=class_pure", "data.train_size=640"],
}


def states_after(make_spec, steps: int, *words: str) -> tuple[list[torch.Tensor], bool | str]:
    torch.manual_seed(0)
    with stack_of(make_spec, *words) as stack:
        for number in range(steps):
            stack.step(number)
        return [t.detach().clone() for t in stack.step.state()], stack.step.graphs


REPLAYED = {name: words for name, words in (WORDS | FURTHER).items() if name != "dbn"}


@pytest.mark.parametrize("words", REPLAYED.values(), ids=REPLAYED)
def test_replayed_steps_have_the_bits_of_others(make_spec, words):
    """The learning rate falls, and phases change, within these steps."""
    falling = [word for word in ["schedule=cosine"] if not any(w.startswith("schedule=") for w in words)]
    plain, never = states_after(make_spec, 10, *falling, *words, "engine.graphs=false")
    replayed, how = states_after(make_spec, 10, *falling, *words, "engine.graphs=true")
    assert (never, how) == (False, True)
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(plain, replayed, strict=True))


@pytest.mark.parametrize(
    "words",
    [
        ["norm=bn", "norm.momentum=0.5", "eval.statistics=[running,batch,precise,adapt]"],
        ["norm=brn", "optim.ema=0.9"],
        ["norm=gn", "diagnostics=[dead_channels,gradient_norm]"],
        ["norm=cbn", "schedule=plateau", "schedule.patience=1", "data.valid=0.1"],
    ],
    ids=lambda words: words[0],
)
def test_a_run_is_the_same_with_and_without_replays(make_spec, words):
    """Evaluation, diagnostics and checks of a plateau come between the steps."""
    base = ["model=mlp", "model.hidden=[20,20]", "data=digits", "batch=16", "steps=60", "eval.every=7"]
    found = []
    for graphs in ("false", "auto"):
        specs = [make_spec(*base, *words, f"seed={seed}", f"engine.graphs={graphs}") for seed in (0, 1)]
        found.append(train_stack(specs, data.load(specs[0].data), CPU))
    assert [r.about["graphs"] for r in found[0] + found[1]] == [False, False, True, True]
    for plain, replayed in zip(*found, strict=True):
        assert replayed.history == plain.history
        assert replayed.diagnostics == plain.diagnostics
        assert all(torch.equal(replayed.final_state[n], t) for n, t in plain.final_state.items())


def test_a_replayed_step_calls_no_module_and_no_autograd(make_spec, monkeypatch):
    calls = Counter()
    for owner, name in ((Linear, "forward"), (torch.autograd, "grad")):
        original = getattr(owner, name)

        def counting(*args, _name=name, _original=original, **kwargs):
            calls[_name] += 1
            return _original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counting)
    with stack_of(make_spec, "model=mlp", "norm=bn") as stack:
        for number in range(3):
            stack.step(number)
        before = calls.copy()
        assert before["forward"] and before["grad"] == 3
        for number in range(3, 9):
            stack.step(number)
    assert calls == before


def test_the_python_calls_of_a_replayed_step_are_few(make_spec):
    """In a small network calls cost as much as operations. With modules and autograd they are over 300."""
    made = 0

    def count(frame, event, argument) -> None:
        nonlocal made
        made += event == "call"

    with stack_of(make_spec, "model=mlp", "norm=bn") as stack:
        for number in range(4):
            stack.step(number)
        sys.setprofile(count)
        try:
            stack.step(4)
        finally:
            sys.setprofile(None)
    assert made < 130


def test_a_model_of_a_library_is_replayed(make_spec):
    """It is trained through torch.func, and its dropout draws torch's own random numbers."""
    words = ["model=torchvision:squeezenet1_1", "norm=none", "data=synthetic", "data.channels=3"]
    words += ["data.size=64", "data.train_size=16", "data.test_size=8", "batch=2", "steps=6"]
    found = []
    for graphs in ("false", "true"):
        torch.manual_seed(0)
        spec = make_spec(*words, f"engine.graphs={graphs}")
        found += train_stack([spec], data.load(spec.data, size=64), CPU)
    plain, replayed = found
    assert (plain.about["graphs"], replayed.about["graphs"]) == (False, True)
    assert all(torch.equal(replayed.final_state[n], t) for n, t in plain.final_state.items())


def test_what_is_no_tensor_and_changes_is_not_replayed():
    state, calls = torch.zeros(3), []

    def perform() -> None:
        calls.append(1)
        state.add_(len(calls))

    replays = Replays(perform)
    for _ in range(6):
        replays(0)
    assert "other arguments than in an earlier step" in replays.refusal
    assert state.tolist() == [21.0] * 3


def test_a_refusal_is_an_error_if_replays_are_required():
    state = torch.ones(3)
    replays = Replays(lambda: state.mul_(state.sum().item()), required=True)
    replays(0)
    with pytest.raises(
        RunFailure, match=r"engine\.graphs=true, but a step cannot be replayed: .*reads values"
    ):
        replays(0)
    with pytest.raises(RunFailure, match=r"engine\.graphs=true.*exchange"):
        Replays(lambda: None, refusal="exchange", required=True)


def test_a_known_refusal_records_nothing():
    calls = []
    replays = Replays(lambda: calls.append(1), refusal="exchange")
    for _ in range(5):
        replays(0)
    assert (len(calls), replays.refusal) == (5, "exchange")


def test_a_step_that_changes_after_it_was_recorded_is_noticed():
    state, calls = torch.zeros(3), []

    def perform() -> None:
        calls.append(1)
        state.add_(1 if len(calls) < 4 else 2)

    replays = Replays(perform)
    for _ in range(FIRST_CHECK - 1):
        replays(0)
    assert len(calls) == 3
    with pytest.raises(RunFailure, match=r"operations of a step have changed.*use engine\.graphs=false"):
        replays(0)


def test_a_change_shortly_before_the_end_is_noticed_in_the_last_step(make_spec, monkeypatch):
    """As that of a norm with a burn-in that its `begin_step` keeps in Python."""
    with stack_of(make_spec, "model=mlp", "norm=bn") as stack:
        layer = next(layer for layer in stack.network.modules() if isinstance(layer, Linear))
        forward = layer.forward
        for number in range(stack.steps - 1):
            if number == 6:
                monkeypatch.setattr(layer, "forward", lambda x: forward(x) * 2)
            stack.step(number)
        with pytest.raises(RunFailure, match="operations of a step have changed"):
            stack.step(stack.steps - 1)


def test_operations_are_checked_again_after_twice_as_many_steps():
    state, calls, taken = torch.zeros(3), [], []

    def perform() -> None:
        calls.append(len(taken))
        state.add_(1)

    replays = Replays(perform)
    for number in range(1, 4 * FIRST_CHECK + 1):
        taken.append(number)
        replays(0)
    assert calls == [1, 2, 3, FIRST_CHECK, 2 * FIRST_CHECK, 4 * FIRST_CHECK]
    assert state.tolist() == [4.0 * FIRST_CHECK] * 3


def test_each_phase_is_recorded_for_itself():
    state, phase = torch.zeros(3), [0]
    replays = Replays(lambda: state.add_(1 + phase[0]))
    for now in (0, 1):
        phase[0] = now
        for _ in range(5):
            replays(now)
    assert (state.tolist(), replays.refusal) == ([15.0] * 3, "")


def test_a_step_that_fails_while_it_is_recorded_raises_its_own_error():
    state, calls = torch.zeros(3), []

    def perform() -> None:
        calls.append(1)
        state.add_(1)
        if len(calls) == 2:
            raise ZeroDivisionError

    replays = Replays(perform)
    replays(0)
    with pytest.raises(ZeroDivisionError):
        replays(0)


def test_a_closed_stack_is_freed_without_the_collector(make_spec):
    gc.collect()
    gc.disable()
    try:
        with stack_of(make_spec, "norm=bn") as stack:
            for number in range(5):
                stack.step(number)
            weight = weakref.ref(stack.optimizer.parameters[0])
        del stack
        assert weight() is None
    finally:
        gc.enable()
