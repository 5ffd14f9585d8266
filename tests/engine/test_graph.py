"""Steps that are replayed as CUDA graphs equal eager steps."""

from __future__ import annotations

import gc
import warnings
import weakref
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch._dynamo

from normbench import data
from normbench.engine import graph as engine_graph
from normbench.engine import graph_check, train
from normbench.engine.device import numerics
from normbench.engine.graph import WARM_UP, Graphs
from normbench.engine.stack import Stack
from normbench.engine.train import train_stack
from normbench.errors import InputError, RunFailure

QUICK = [
    "model=lenet5", "data=synthetic", "data.train_size=64", "data.test_size=32", "data.channels=1",
    "data.size=32", "data.crop=2", "batch=8", "steps=20", "engine.device=cuda",
]  # fmt: skip


class Recorded:
    """A stand-in for a CUDA graph on a CPU: a replay performs what was launched during the capture."""

    def __init__(self, cuda: StandIn) -> None:
        self.cuda, self.kernels, self.replayed = cuda, [], 0
        cuda.graphs.append(self)

    def replay(self) -> None:
        self.replayed += 1
        for kernel in self.kernels:
            kernel()

    def reset(self) -> None:
        self.cuda.graphs.remove(self)


class StandIn:
    """The parts of torch.cuda that `Graphs` uses. As on a GPU, a capture does not compute.

    As torch before 2.12, it leaves its stream and its pool as they are if a capture fails.
    """

    def __init__(self) -> None:
        self.current = self.outer = SimpleNamespace(name="outer", wait_stream=lambda other: None)
        self.streams: list[SimpleNamespace] = []
        self.graphs: list[Recorded] = []
        self.pools, self.underway, self.debug_mode = {}, [], 0
        self.recording: Recorded | None = None
        self.invalid = False

    def launch(self, kernel) -> None:
        if self.recording is not None:
            self.recording.kernels.append(kernel)
        else:
            kernel()

    def wait(self, *, seen: bool = True) -> None:
        """An operation that waits for the GPU; `seen`: by torch's debug mode."""
        if seen and self.debug_mode == "error":
            raise RuntimeError("called a synchronizing CUDA operation")
        if self.recording is not None:
            self.invalid = True
            raise RuntimeError("operation not permitted when stream is capturing\nand more")

    def new_stream(self, device: int) -> SimpleNamespace:
        self.streams.append(SimpleNamespace(name="side", wait_stream=lambda other: None))
        return self.streams[-1]

    @contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    def set_stream(self, stream) -> None:
        self.current = stream

    def set_debug_mode(self, mode) -> None:
        self.debug_mode = mode

    def new_pool(self) -> tuple[int, int]:
        return (0, len(self.pools) + 1)

    def begin(self, graph: Recorded, pool, stream) -> None:
        assert self.current is self.outer, "the capture of an earlier graph is still the current stream"
        self.empty_cache()
        self.current, self.recording = stream, graph
        self.underway.append(pool)
        self.pools[pool] = self.pools.get(pool, 0) + 1

    def end(self) -> None:
        graph, self.recording = self.recording, None
        if self.invalid:
            self.invalid = False
            raise RuntimeError("operation failed due to a previous error during capture")
        self.underway.pop()
        if not graph.kernels:
            warnings.warn("The CUDA Graph is empty. This usually means another device", stacklevel=1)
        self.current = self.outer

    def end_allocation(self, device, pool) -> None:
        if pool not in self.underway:
            raise RuntimeError("not currently recording to mempool_id")
        self.underway.remove(pool)

    def release_pool(self, device, pool) -> None:
        self.pools[pool] -= 1

    def empty_cache(self) -> None:
        assert not self.underway, "INTERNAL ASSERT FAILED captures_underway.empty()"


@pytest.fixture
def cuda(monkeypatch) -> StandIn:
    made = StandIn()

    class graph:
        def __init__(self, recorded, pool=None, stream=None) -> None:
            self.what = recorded, pool or made.new_pool(), stream or SimpleNamespace(name="torch's")

        def __enter__(self) -> None:
            made.begin(*self.what)

        def __exit__(self, *raised: object) -> None:
            made.end()

    for name, stand_in in {
        "CUDAGraph": lambda: Recorded(made), "graph": graph, "graph_pool_handle": made.new_pool,
        "stream": made.stream, "Stream": made.new_stream, "set_stream": made.set_stream,
        "current_stream": lambda: made.current, "current_device": lambda: 0, "synchronize": lambda: None,
        "get_sync_debug_mode": lambda: made.debug_mode, "set_sync_debug_mode": made.set_debug_mode,
        "empty_cache": made.empty_cache,
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, stand_in)
    for name, stand_in in {
        "_cuda_endAllocateToPool": made.end_allocation, "_cuda_releasePool": made.release_pool,
    }.items():  # fmt: skip
        monkeypatch.setattr(torch._C, name, stand_in, raising=False)
    engine_graph._side_stream.cache_clear()
    yield made
    engine_graph._side_stream.cache_clear()


def counting(cuda: StandIn, state: torch.Tensor):
    return lambda: cuda.launch(lambda: state.add_(1))


def test_a_capture_does_not_change_the_state_and_a_graph_is_replayed(cuda):
    state, calls = torch.zeros(3), []

    def perform() -> None:
        calls.append(cuda.recording is not None)
        cuda.launch(lambda: state.add_(1))

    graphs = Graphs(perform, lambda: [state])
    for step in range(5):
        graphs(0)
        assert state.tolist() == [step + 1] * 3
    assert calls == [False] * WARM_UP + [True]
    assert [graph.replayed for graph in cuda.graphs] == [5]
    assert graphs.refusal == ""


def test_each_phase_has_its_graph_and_at_most_one_graph_lives(cuda):
    state, alive = torch.zeros(3), []

    def perform() -> None:
        alive.append(len(cuda.graphs) - (cuda.recording is not None))
        cuda.launch(lambda: state.add_(1))

    graphs = Graphs(perform, lambda: [state])
    for step, phase in enumerate([0, 0, 1, 1, 2]):
        graphs(phase)
        assert state.tolist() == [step + 1] * 3
    assert alive == [0] * 3 * (WARM_UP + 1)
    assert len(cuda.graphs) == 1
    graphs.release()
    assert not cuda.graphs


def test_all_graphs_of_a_device_use_one_side_stream(cuda):
    for _ in range(3):
        Graphs(counting(cuda, torch.zeros(1)), list)(0)
    assert [stream.name for stream in cuda.streams] == ["side"]
    assert cuda.current is cuda.outer


@pytest.mark.parametrize(
    ("seen", "why", "captures"),
    [
        (True, "called a synchronizing CUDA operation", 0),
        (False, "operation not permitted when stream is capturing", 1),
    ],
    ids=["seen in the warm-up", "seen in the capture"],
)
def test_after_a_refusal_steps_run_eagerly_and_the_next_function_is_captured(cuda, seen, why, captures):
    state = torch.zeros(3)

    def perform() -> None:
        cuda.wait(seen=seen)
        state.add_(1)

    graphs = Graphs(perform, lambda: [state])
    for step in range(3):
        graphs(0)
        assert state.tolist() == [step + 1] * 3
    assert graphs.refusal == why
    assert len(cuda.pools) == captures
    assert cuda.current is cuda.outer
    assert cuda.debug_mode == 0
    cuda.empty_cache()
    assert set(cuda.pools.values()) <= {0}, "the pool of the failed capture is not freed"
    later = Graphs(counting(cuda, state), lambda: [state])
    later(0)
    assert later.refusal == ""
    assert state.tolist() == [4.0] * 3


def test_a_function_that_is_known_to_wait_is_never_captured(cuda):
    graphs = Graphs(lambda: cuda.wait(), list, refusal="the eigendecomposition waits")
    graphs(0)
    assert (graphs.refusal, cuda.graphs) == ("the eigendecomposition waits", [])


def test_a_refusal_is_an_error_if_graphs_are_required(cuda):
    graphs = Graphs(lambda: cuda.wait(), list, required=True)
    with pytest.raises(RunFailure, match=r"engine\.graphs=true, but a step cannot be .*synchronizing"):
        graphs(0)
    with pytest.raises(RunFailure, match=r"engine\.graphs=true.*the norm waits"):
        Graphs(lambda: None, list, refusal="the norm waits", required=True)


def test_an_empty_graph_is_an_error_because_its_replay_would_do_nothing(cuda):
    with pytest.raises(RunFailure, match="graph of a step is empty"):
        Graphs(lambda: None, list)(0)
    assert cuda.current is cuda.outer
    cuda.empty_cache()


def test_out_of_memory_is_raised_in_a_capture_too(cuda):
    def perform() -> None:
        if cuda.recording is not None:
            cuda.invalid = True
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.cuda.OutOfMemoryError):
        Graphs(perform, lambda: [torch.zeros(1)])(0)
    assert cuda.current is cuda.outer
    cuda.empty_cache()


@pytest.mark.parametrize("words", [[], ["engine.compile=true"]], ids=["plain", "compiled"])
def test_a_closed_stack_is_freed_without_the_collector(make_spec, cuda, monkeypatch, words):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    spec = make_spec(*QUICK[:-1], "engine.device=cpu", "norm=bn", "optim.ema=0.9", *words)
    gc.collect()
    gc.disable()
    try:
        with Stack(
            [spec, spec.model_copy(update={"seed": 1})], data.load(spec.data), torch.device("cpu")
        ) as stack:
            stack.step._graphs = Graphs(stack.step._perform, stack.step.state)
            cuda.launch = lambda kernel: kernel()
            stack.step.network.begin_step(0, 20)
            stack.step._perform()
            parts = stack.network, stack.optimizer, stack.step, stack.optimizer.slots["momentum"][0]
            alive = [weakref.ref(each) for each in parts]
        del stack, parts
        assert [type(each()).__name__ for each in alive if each() is not None] == []
    finally:
        gc.enable()


def test_nothing_of_a_trained_stack_is_alive_when_the_next_one_is_built(make_spec, monkeypatch):
    alive: list[weakref.ref] = []

    class Watched(Stack):
        def __init__(self, *args) -> None:
            assert [each() for each in alive if each() is not None] == []
            super().__init__(*args)
            alive.extend(map(weakref.ref, (self.network, self.optimizer, self.step, self.batches)))

    monkeypatch.setattr(train, "Stack", Watched)
    words = ["norm=cbn", "eval.every=10", "optim.ema=0.9", "eval.statistics=[ema_precise]"]
    spec = make_spec(*QUICK[:-1], "engine.device=cpu", *words, "diagnostics=[running_error]")
    gc.collect()
    gc.disable()
    try:
        for _ in range(2):
            train_stack([spec], data.load(spec.data), torch.device("cpu"))
    finally:
        gc.enable()
    assert len(alive) == 8


def test_every_stack_of_a_process_is_compiled(make_spec, monkeypatch):
    compiled = []

    def backend(module, inputs):
        compiled.append(module)
        return module.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    spec = make_spec("model=mlp", *QUICK[1:-1], "engine.device=cpu", "norm=none", "engine.compile=true")
    limit = "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"
    with torch._dynamo.config.patch({limit: 1}):
        for number in range(3):
            with Stack([spec], data.load(spec.data), torch.device("cpu")) as stack:
                stack.step(0)
            assert len(compiled) == number + 1


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # the compiler's own
@pytest.mark.parametrize(("norm", "divided"), [("bn", False), ("cbn", True)])
def test_the_record_says_how_often_the_compiler_divides_a_step(make_spec, monkeypatch, norm, divided):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    words = ["model=mlp", *QUICK[1:-2], "batch=8", "steps=2", "norm.args.burn_in=0"]
    words = [word for word in words if norm == "cbn" or "burn_in" not in word]
    spec = make_spec(*words, f"norm={norm}", "engine.device=cpu", "engine.compile=true")
    (result,) = train_stack([spec], data.load(spec.data), torch.device("cpu"))
    assert (result.about["graph_breaks"] > 0) == divided


def test_a_norm_that_waits_for_the_host_is_refused_if_graphs_are_required(make_spec, tmp_path):
    spec = make_spec(*QUICK[:-1], "norm=dbn", "placement.sites=conv*")
    engine = spec.engine.model_copy(update={"graphs": True, "device": "cuda"})
    asked = spec.model_copy(update={"engine": engine})
    with pytest.raises(InputError, match=r"norm=dbn cannot train with engine\.graphs=true: its eigen"):
        graph_check.check(asked)
    graph_check.check(spec)


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
        with numerics(specs[0].engine, device):
            stack = Stack(specs, data.load(specs[0].data).to(device), device)
            for step in range(20):
                stack.step(step)
        assert stack.step.graphs is (graphs == "true")
        states.append([tensor.double().cpu() for tensor in stack.step.state()])
    for replayed, eager in zip(*states, strict=True):
        torch.testing.assert_close(replayed, eager, rtol=2e-3, atol=2e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_norm_that_waits_for_the_host_trains_without_graphs_and_the_next_stack_is_captured(make_spec):
    device = torch.device("cuda")
    spec = make_spec(*QUICK, "norm=dbn", "placement.sites=conv*")
    (result,) = train_stack([spec], data.load(spec.data).to(device), device)
    assert isinstance(result.about["graphs"], str)
    assert result.metrics["train_loss"] is not None
    torch.cuda.empty_cache()
    spec = make_spec(*QUICK, "norm=bn")
    (result,) = train_stack([spec], data.load(spec.data).to(device), device)
    assert result.about["graphs"] is True


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_after_a_failed_capture_the_process_goes_on():
    device = torch.device("cuda")
    state = torch.zeros(3, device=device)

    def perform() -> None:
        state.add_(1)
        if torch.cuda.is_current_stream_capturing():
            state.sum().item()

    stream = torch.cuda.current_stream()
    graphs = Graphs(perform, lambda: [state])
    graphs(0)
    assert graphs.refusal
    assert torch.cuda.current_stream() == stream
    torch.cuda.empty_cache()
    later = Graphs(lambda: state.add_(1), lambda: [state])
    later(0)
    assert later.refusal == ""
    assert state.tolist() == [2.0] * 3


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_a_stack_trains_on_the_second_device(make_spec):
    device = torch.device("cuda:1")
    spec = make_spec(*QUICK, "norm=bn", "engine.device=cuda:1")
    (result,) = train_stack([spec], data.load(spec.data).to(device), device)
    assert result.about["graphs"] is True
    assert result.history[0]["train_loss"] != result.history[-1]["train_loss"]
