"""`normbench bench`: its counts are right, it compares like with like, and it measures and saves."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from normbench import cli, data, models
from normbench.autotune.tuning import Measurement
from normbench.bench import phases as where
from normbench.bench import processes, throughput
from normbench.bench.clock import timed
from normbench.bench.grid import Case, Grid, cases
from normbench.bench.phases import LOSS, NORM, OTHER, PHASES, phases
from normbench.bench.plain import PlainLoop, refusal
from normbench.bench.plain_network import plain_network
from normbench.bench.processes import Contestant, Processes, Rig
from normbench.bench.roofline import count_step
from normbench.bench.throughput import _peaks, banked
from normbench.engine.stack_layout import StackLayout, convolutions
from normbench.errors import RunFailure
from normbench.spec import trainings

CPU = torch.device("cpu")
QUICK = ["--models", "mlp", "--batches", "2", "--lanes", "1,4", "--rounds", "2", "--seconds", "0.1"]
SMALL = ["data=synthetic", "data.train_size=64", "data.test_size=1", "steps=1000"]
NETWORKS = {
    "a mlp": ["model=mlp", "norm=bn"],
    "lenet": ["model=lenet5", "norm=bn"],
    "lenet with tracking nothing": ["model=lenet5", "norm=bn", "norm.args.track=false"],
    "lenet with instance norm": ["model=lenet5", "norm=in", "placement.sites=conv*"],
    "a vgg without norms": ["model=vgg11", "model.width=8", "norm=none"],
    "resnet": ["model=resnet20", "norm=gn"],
    "bottlenecks": ["model=resnet50", "model.width=8", "model.stem=cifar", "norm=ln_chw"],
    "projections": ["model=resnet20", "model.shortcut=conv", "norm=bn", "placement=norm_act_conv"],
}


@pytest.fixture
def train(make_spec):
    """A run of some words and its data."""

    def make(*words: str):
        spec = make_spec(*SMALL, "batch=4", *words)
        return spec, data.load(spec.data, size=models.fitted_size(spec))

    return make


@pytest.mark.parametrize("words", NETWORKS.values(), ids=NETWORKS)
def test_the_plain_network_equals_the_run_s_and_uses_only_torch_s_layers(words, train):
    spec, dataset = train(*words, "engine.precision=fp64")
    ours = models.build([spec], dataset.shape).double()
    theirs = plain_network(spec, dataset.shape).double()
    x = torch.randn(4, dataset.channels, dataset.size, dataset.size, dtype=torch.float64)
    torch.testing.assert_close(theirs(x), ours(x)[:, 0], rtol=1e-9, atol=1e-9)
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in ours.parameters())
    weighing = [m for m in theirs.modules() if m._parameters or m._buffers]
    assert {type(m).__module__.partition(".")[0] for m in weighing} == {"torch"}


@pytest.mark.parametrize("tuned", [False, True])
def test_the_plain_loop_learns(tuned, make_spec, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda net, mode: net)
    spec = make_spec("model=lenet5", "batch=16", "steps=200")
    dataset = data.load(spec.data, size=32)
    loop = PlainLoop(spec, dataset, CPU, tuned=tuned)
    sums = []
    for number in range(200):
        loop(number)
        sums.append(loop.losses.item())
    assert sums[-1] - sums[-51] < 0.3 * sums[49]
    assert loop.optimizer.param_groups[0]["lr"] < 1e-4 * spec.lr + 1e-5


def test_the_plain_loop_crops_and_flips_standardized_images(train):
    spec, dataset = train("model=resnet20", "data.crop=2", "data.flip=true")
    loop = PlainLoop(spec, dataset, CPU)
    index = torch.arange(64)
    seen = loop._images(index)
    windows = loop.images[index].unfold(2, 32, 1).unfold(3, 32, 1).flatten(2, 3)  # (N, C, 25, H, W)
    either = torch.stack([windows, windows.flip(-1)])
    same = (either == seen[:, :, None]).all(-1).all(-1).all(2)  # (2, N, 25)
    assert same.any(2).any(0).all()
    assert same.any(1).any(0).sum() > 10
    assert same.any(2).any(1).all()
    inside = loop.images[:, :, 2:-2, 2:-2]
    assert torch.allclose(inside.mean((0, 2, 3)), torch.zeros(3), atol=1e-4)
    assert torch.allclose(inside.std((0, 2, 3)), torch.ones(3), atol=1e-3)
    loop.images = loop.images.to("meta")  # a tensor on another device would be refused
    assert loop._images(index.to("meta")).device.type == "meta"


@pytest.mark.parametrize(
    "word",
    [
        "norm=ln_c",
        "norm.affine=weight",
        "norm.momentum=cumulative",
        "norm.momentum=debiased:0.01",
        "norm.momentum=linear:0.1:0.001",
        "weight=ws",
        "workers=2",
        "optim=adamw",
    ],
)
def test_a_run_without_torch_layers_has_no_plain_loop(word, make_spec):
    assert not refusal(make_spec("model=lenet5"))
    assert refusal(make_spec("model=lenet5", word)).startswith(word)


@pytest.mark.parametrize("words", NETWORKS.values(), ids=NETWORKS)
def test_arithmetic_equals_torch_s_count(words, train):
    spec, dataset = train(*words)
    network = models.build([spec], dataset.shape)
    with FlopCounterMode(display=False) as counter:
        network(torch.randn(4, dataset.channels, dataset.size, dataset.size)).sum().backward()
    assert count_step(spec, dataset.shape).flops == counter.get_total_flops()


def test_memory_traffic_equals_a_count_by_hand(train):
    words = ["model=mlp", "model.hidden=[5]", "data.channels=1", "data.size=2", "norm=gn"]
    parameters = (4 * 5 + 5) + 5 + (5 * 10 + 10)  # the norm's shift replaces a bias
    outputs = 4 * (5 + 5 + 5 + 10)  # linear, norm, ReLU, head; flattening moves nothing
    spec, dataset = train(*words)
    found = count_step(spec, dataset.shape)
    assert found.bytes == 2 * 3 * parameters * 4
    assert found.bytes_with_activations == found.bytes + 4 * outputs * 4
    bare = count_step(train(*words, "optim.momentum=0.0", "engine.precision=fp64")[0], dataset.shape)
    assert bare.bytes == 2 * 2 * parameters * 8
    assert count_step(train(*words, "optim=adamw")[0], dataset.shape).bytes == 2 * 4 * parameters * 4


def test_a_stack_of_the_bench_has_the_measured_layout(train, monkeypatch):
    spec, dataset = train("model=lenet5")
    layout = StackLayout("contiguous", exceptions={"body.0.0": "matmul"})

    def search(spec, shape, most, measured, run_on_all, **how):
        assert (spec.engine.lanes, most, shape) == (2, 2, dataset.shape)
        measured[2] = Measurement(2, layout, 0.1, 1)

    monkeypatch.setattr(throughput, "search", search)
    pool = SimpleNamespace(pool=SimpleNamespace(run_on_all=None))
    found = throughput._layout(Case(spec, dataset, ()), 2, Grid((), (), (2,), 1, 1.0), pool, [])
    rig = Rig(CPU)
    rig.clear(dataset)
    contestant = Contestant("a stack", "stack", Case(spec, dataset, ()).runs(2), found)
    assert not rig.enter(contestant, 0.01, 1e6)
    assert rig.stacks["a stack"].layout == layout
    assert [c.algorithm for c in convolutions(rig.stacks["a stack"].network).values()] == [
        "matmul",
        "grouped",
    ]
    assert rig.host(contestant) > 0
    rig.clear(None)


def test_a_layout_that_cannot_be_measured_is_a_note(train, monkeypatch):
    spec, dataset = train("model=lenet5")

    def search(*args, **how):
        raise RunFailure("too much")

    monkeypatch.setattr(throughput, "search", search)
    pool, notes = SimpleNamespace(pool=SimpleNamespace(run_on_all=None)), []
    grid = Grid((), (), (2,), 1, 1.0)
    assert throughput._layout(Case(spec, dataset, ()), 2, grid, pool, notes) is None
    assert notes == ["lenet5, batch 4: the layout of the stack of 2 was not measured: too much"]


def test_phases_add_up_to_a_step(train):
    spec, dataset = train("model=lenet5")
    found = phases([spec, spec.model_copy(update={"seed": 1})], dataset, CPU, 0.05)
    assert list(found) == [*PHASES, OTHER]
    assert min(found.values()) >= 0
    assert all(found[phase] > 0 for phase in PHASES)
    assert phases([train("model=mlp")[0]], dataset, CPU, 0.01)[where.CONVOLUTION] == 0


def test_a_backward_pass_has_the_phase_of_its_forward_pass():
    x = torch.zeros(1, requires_grad=True)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        with record_function(f"{where._MARK}{NORM}"):
            y = x.expand(2000, 2000)  # a view: only the backward pass takes time
        y.backward(torch.ones(1).expand_as(y))
    spent = where._by_phase(profiler.events(), kernels=False)
    assert spent[NORM] > 5 * spent[LOSS]
    assert not any(where._by_phase(profiler.events(), kernels=True).values())  # no GPU was at work


def test_timed_takes_steps_for_the_given_time():
    taken: list[int] = []
    assert timed(taken.append, 5, 0.0, CPU)[0] == 1
    done, passed = timed(taken.append, 6, 0.01, CPU)
    assert taken == list(range(5, 6 + done))
    assert 0.01 <= passed < 1


def test_runs_with_other_momenta_share_one_training(make_spec):
    runs = banked(make_spec("model=lenet5"))
    assert len({run.signature for run in runs}) == len(runs) == 8
    assert len(trainings(runs)) == 1


def test_random_images_replace_missing_default_data(tmp_path, monkeypatch):
    monkeypatch.setenv("NORMBENCH_DATA", str(tmp_path))
    monkeypatch.setattr("normbench.bench.grid.IMAGES", 100)
    grid = Grid(("resnet20",), (2,), (1,), 1, 0.1)
    [case] = cases(grid, tmp_path)
    assert (case.dataset.channels, case.dataset.size, len(case.dataset.train_labels)) == (3, 32, 100)
    assert (case.spec.data.crop, case.spec.data.flip) == (4, True)
    assert "cifar10 is not here" in case.notes[0]


def test_a_contestant_that_is_too_large_or_too_slow_is_left_out_and_other_errors_are_raised(
    train, monkeypatch
):
    spec, dataset = train("model=mlp")
    rig = Rig(CPU)
    rig.clear(dataset)

    def breaking(error: Exception):
        def call(*args: object, **how: object) -> None:
            raise error

        return call

    assert not rig.enter(Contestant("a stack", "stack", (spec,)), 0.01, 1.0)
    assert rig.time(Contestant("a stack", "stack", (spec,)), 0.01)[0] >= 1
    assert rig.enter(Contestant("a stack", "stack", (spec,)), 0.01, 1e-9) == "a step takes 0.0 s"
    monkeypatch.setattr(processes, "Stack", breaking(torch.OutOfMemoryError("too much\nof it")))
    assert rig.enter(Contestant("a stack", "stack", (spec,)), 0.01, 1.0) == "OutOfMemoryError: too much"
    monkeypatch.setattr(processes, "Stack", breaking(RuntimeError("a mistake")))
    with pytest.raises(RuntimeError, match="a mistake"):
        rig.enter(Contestant("a stack", "stack", (spec,)), 0.01, 1.0)
    monkeypatch.setattr(torch, "compile", breaking(RuntimeError("no compiler")))
    assert rig.enter(Contestant("tuned", "tuned", (spec,)), 0.01, 1.0) == "RuntimeError: no compiler"
    assert not rig.steps


def test_an_error_in_a_process_is_raised_here():
    with Processes(1, CPU) as processes:
        with pytest.raises(RunFailure, match="the measurement failed: AttributeError"):
            processes.all("nonsense")
        processes.pool.workers[0].process.kill()
        with pytest.raises(RunFailure, match="died"):
            processes.all("clear", None)


def test_bench_measures_prints_and_saves(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.run(["bench", *QUICK, "engine.processes=2"]) == 0
    said = capsys.readouterr()
    assert "measuring mlp, batch 2 (1 of 1)" in said.err
    [file], [page] = ((tmp_path / "results" / "bench").glob(f"*.{kind}") for kind in ("json", "md"))
    found = json.loads(file.read_text())
    assert file.stem == page.stem
    assert file.stem.endswith(f"_{torch.__version__.partition('+')[0]}_{found['date']}")
    assert found["command"] == f"normbench bench {' '.join([*QUICK, 'engine.processes=2'])}"
    assert (found["schema"], found["kind"], found["processes"], found["notes"]) == (1, "cpu", 2, [])
    one, four = found["cells"]
    for cell, lanes in ((one, 1), (four, 4)):
        check(cell, found["peaks"], lanes)
    assert one["ratio"]["lone"]["rounds"] == [1, 1]
    [banks] = found["banks"]
    assert (banks["banks"], len(banks["ratio"]["rounds"])) == (8, 2)
    text = page.read_text()
    assert f"| mlp | 2 | 4 | {four['run_steps_per_s']['stack']['median']:.4g} |" in text
    assert found["command"] in text
    assert str(file) in said.out


def check(cell, peaks, lanes):
    """A cell has the fields that normbench.bench describes, and its numbers agree with each other."""
    keys = (
        "model norm data batch workers lanes run_steps_per_s ratio per_run_step share step_s host_s phases_s"
    )
    assert [key for key in cell if key not in ("layout", "exceptions")] == keys.split()
    assert (cell["model"], cell["norm"], cell["data"], cell["lanes"]) == ("mlp", "bn", "digits", lanes)
    rates = cell["run_steps_per_s"]
    assert list(rates) == ["stack", *cell["ratio"]] == ["stack", "lone", "plain"]
    for name, ratio in cell["ratio"].items():
        pairs = zip(rates["stack"]["rounds"], rates[name]["rounds"], strict=True)
        assert ratio["rounds"] == pytest.approx([a / b for a, b in pairs])
        assert ratio["min"] <= ratio["median"] <= ratio["max"]
    taken = rates["stack"]["median"] * cell["per_run_step"]["flops"]
    assert cell["share"]["flops"] == pytest.approx(taken / peaks["flops_per_s"])
    assert 0 < cell["share"]["flops"] < 1
    assert sum(cell["phases_s"].values()) == pytest.approx(cell["step_s"])


BAD = {
    "a batch of none": (["--batches", "0"], "--batches must be whole numbers ≥ 1"),
    "lanes in words": (["--lanes", "1,many"], "--lanes must be whole numbers ≥ 1"),
    "no time": (["--seconds", "0"], "--seconds must be a number > 0"),
    "time that is no number": (["--seconds", "nan"], "--seconds must be a number > 0"),
    "several rounds": (["--rounds", "2,3"], "--rounds must be one whole number"),
    "an unknown model": (["--models", "lenet"], "unknown model 'lenet'; nearest: lenet5"),
    "an unknown norm": (["norm=bm"], "unknown norm 'bm'"),
    "a sweep": (["norm=bn,gn"], "bench takes no sweep"),
    "what an option sets": (["batch=3"], "bench takes batch as an option"),
    "a device that is not here": (["--device", "cuda:99"], "cuda:99 is not here"),
    "a precision of GPUs": (["--device", "cpu", "engine.precision=fp16"], "needs a CUDA device"),
    "a norm that cannot": (["--models", "mlp", "--batches", "1"], "at least 2 values"),
    "data that are not here": (["data=mnist", "data.root=nowhere", "data.download=false"], "nowhere"),
    "a folder in place of a file": (["--json", "."], "--json must be a file; '.' is a folder"),
    "a flag of nobody": (["--fast"], "unrecognized arguments"),
}


@pytest.mark.parametrize(("argv", "said"), BAD.values(), ids=BAD)
def test_bad_input_gives_one_line_and_measures_nothing(argv, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("normbench.bench.throughput.measure", None)
    assert cli.run(["bench", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_bench_measures_on_a_gpu(tmp_path: Path):
    file = tmp_path / "new" / "folder" / "found.json"  # made on the way
    words = [*QUICK, "--models", "lenet5", "--device", "cuda", "--json", str(file), "data=synthetic"]
    assert cli.run(["bench", *words]) == 0
    found = json.loads(file.read_text())
    assert (found["kind"], found["processes"]) == ("cuda", 1)
    cell = found["cells"][-1]
    assert cell["ratio"].keys() >= {"lone", "plain"}
    assert "tuned" in cell["ratio"] or any("no tuned" in note for note in found["notes"])
    assert cell["phases_s"]["convolution"] > 0


def test_peaks_are_measured_on_any_slow_machine(make_spec):
    spec = make_spec("model=mlp")
    grid = Grid(("mlp",), (2,), (1,), rounds=1, seconds=1e-6)
    with Processes(1, CPU) as processes:
        assert min(_peaks(processes, spec, grid).values()) > 0
