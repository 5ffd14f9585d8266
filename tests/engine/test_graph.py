"""Steps that are replayed as CUDA graphs equal eager steps."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from normbench import data
from normbench.engine.device import numerics
from normbench.engine.graph import WARM_UP, Graphs
from normbench.engine.stack import Stack
from normbench.engine.train import train_stack

QUICK = [
    "model=lenet5", "data=synthetic", "data.train_size=64", "data.test_size=32", "data.channels=1",
    "data.size=32", "data.crop=2", "batch=8", "steps=20", "engine.device=cuda",
]  # fmt: skip


class Recorded:
    """A stand-in for a CUDA graph on a CPU: a replay performs the captured function again."""

    def __init__(self) -> None:
        self.replayed = 0

    def replay(self) -> None:
        self.replayed += 1
        self.perform()


@pytest.fixture
def cuda(monkeypatch) -> SimpleNamespace:
    """A stand-in for the parts of torch.cuda that `Graphs` uses. As on a GPU, a capture does not compute."""
    made = SimpleNamespace(graphs=[], capturing=False, refuses="")
    stream = SimpleNamespace(wait_stream=lambda other: None)

    class graph:
        def __init__(self, recorded: Recorded) -> None:
            made.graphs.append(recorded)

        def __enter__(self) -> None:
            made.capturing = True

        def __exit__(self, *raised: object) -> None:
            made.capturing = False

    for name, stand_in in {
        "CUDAGraph": Recorded, "graph": graph, "stream": lambda side: nullcontext(), "Stream": lambda: stream,
        "current_stream": lambda: stream, "synchronize": lambda: None,
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, stand_in)
    return made


def test_a_capture_does_not_change_the_state_and_each_phase_has_its_graph(cuda):
    state, calls = torch.zeros(3), []

    def perform() -> None:
        calls.append(cuda.capturing)
        if cuda.capturing:
            cuda.graphs[-1].perform = lambda: state.add_(1)
        else:
            state.add_(1)

    graphs = Graphs(perform, lambda: [state])
    for step, phase in enumerate([0, 0, 0, 1, 1]):
        graphs(phase)
        assert state.tolist() == [step + 1] * 3
    assert calls == ([False] * WARM_UP + [True]) * 2
    assert [graph.replayed for graph in cuda.graphs] == [3, 2]
    assert graphs.refusal == ""


def test_a_function_that_cannot_be_captured_is_called_and_the_reason_is_kept(cuda):
    state = torch.zeros(3)

    def perform() -> None:
        if cuda.capturing:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        state.add_(1)

    graphs = Graphs(perform, lambda: [state])
    for step in range(3):
        graphs(0)
        assert state.tolist() == [step + 1] * 3
    assert graphs.refusal == "operation not permitted when stream is capturing"


def test_out_of_memory_in_a_capture_is_raised(cuda):
    def perform() -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.cuda.OutOfMemoryError):
        Graphs(perform, lambda: [torch.zeros(1)])(0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    "words",
    [
        ["norm=bn"], ["norm=bn", "norm.momentum=linear:0.5:0.1"], ["norm=gn"], ["norm=frozen"], ["norm=brn"],
        ["norm=streaming"], ["norm=cbn"], ["optim=adamw", "optim.clip=1.0"], ["engine.precision=tf32"],
        ["engine.precision=bf16"], ["engine.precision=fp16"], ["engine.precision=fp16", "optim=adamw"],
        ["model=vgg11", "data.channels=3", "model.dropout=0.5"], ["model=resnet20", "data.channels=3"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_replayed_steps_equal_eager_steps(make_spec, words):
    states = []
    for graphs in ("true", "false"):
        specs = [make_spec(*QUICK, *words, f"engine.graphs={graphs}", f"seed={seed}") for seed in range(3)]
        device = torch.device("cuda")
        with numerics(specs[0].engine):
            stack = Stack(specs, data.load(specs[0].data).to(device), device)
            for step in range(20):
                stack.step(step)
        assert stack.step.graphs is (graphs == "true")
        states.append([tensor.double().cpu() for tensor in stack.step.state()])
    for replayed, eager in zip(*states, strict=True):
        torch.testing.assert_close(replayed, eager, rtol=2e-3, atol=2e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_norm_that_waits_for_the_host_trains_without_graphs_and_the_record_says_so(make_spec):
    spec = make_spec(*QUICK, "norm=dbn", "placement.sites=conv*")
    device = torch.device("cuda")
    (result,) = train_stack([spec], data.load(spec.data).to(device), device)
    assert isinstance(result.about["graphs"], str)
    assert result.metrics["train_loss"] is not None
