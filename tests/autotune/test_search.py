"""The search measures few stacks, in the right order, and never more lanes than fit into memory."""

from __future__ import annotations

import pytest
import torch

from normbench import data, models
from normbench.autotune import default_widths, measurement
from normbench.autotune.memory import lanes_that_fit, stack_bytes
from normbench.autotune.search import search
from normbench.autotune.tuning import Measurement, Tuning, best_width, measured_widths, next_width
from normbench.data.shape import Shape
from normbench.engine.stack import Stack
from normbench.engine.stack_layout import StackLayout, describe_convolutions
from normbench.engine.train import train_stack

CPU = torch.device("cpu")
LAYOUT = StackLayout("channels_last")
LENET = Shape(1, 32, 10, 60_000, 10_000)
SYNTHETIC = ["data=synthetic", "data.train_size=64", "data.channels=1", "data.size=32"]
QUICK = ["model=lenet5", "data=mnist", "norm=bn", "batch=4", "steps=10", "engine.device=cpu"]


def measured(*seconds: float) -> dict[int, Measurement]:
    """Measurements of 1, 2, 4, … lanes with the given seconds per lane and step."""
    return {2**i: Measurement(2**i, LAYOUT, s, 1000 * 2**i) for i, s in enumerate(seconds)}


@pytest.mark.parametrize(
    ("seconds", "most", "then", "chosen"),
    [
        ([1.0], 1, None, 1),
        ([1.0], 3, 2, 1),
        ([1.0, 0.8], 3, 4, 2),
        ([1.0, 0.8, 0.5], 3, None, 4),  # the first power of two that holds them all
        ([1.0, 1.04], 64, 4, 1),  # not worse yet
        ([1.0, 1.06], 64, 4, 1),  # worse only once
        ([1.0, 1.06, 1.06], 64, None, 1),
        ([1.0, 1.06, 0.8], 64, 8, 4),
        ([1.0, 0.8, 0.79], 64, 8, 2),  # as good with fewer lanes
        ([1.0, 0.8, 0.7, 0.75], 64, 16, 4),
        ([1.0, 0.8, 0.7, 0.75, 0.8], 64, None, 4),
    ],
)
def test_widths_double_until_wider_stacks_are_no_faster(seconds, most, then, chosen):
    known = measured_widths(measured(*seconds))
    assert next_width(known, most) == then
    assert best_width(known) == chosen


def test_the_default_width_is_measured_even_if_narrower_stacks_got_worse():
    known = measured_widths(measured(1.0, 1.2, 1.4))
    assert next_width(known, 64, least=4) is None
    assert next_width(known, 64, least=16) == 8
    assert next_width(known, 3, least=16) is None


def test_widths_after_a_gap_do_not_count():
    assert measured_widths({1: Measurement(1, LAYOUT, 1.0, 1), 4: Measurement(4, LAYOUT, 0.1, 1)}) == [
        Measurement(1, LAYOUT, 1.0, 1)
    ]
    assert measured_widths({}) == []
    assert next_width([], 8) == 1


def test_a_stack_takes_the_layout_of_the_nearest_measured_width():
    made = tuple(
        Measurement(k, StackLayout(layout), 1.0, 1) for k, layout in ((1, "contiguous"), (8, "channels_last"))
    )
    tuning = Tuning(8, "", LAYOUT, made)
    assert [tuning.layout_at(k).memory_format for k in (1, 2, 3, 8, 64)] == ["contiguous"] * 2 + [
        "channels_last"
    ] * 3
    assert Tuning(8, "", LAYOUT).layout_at(3) is LAYOUT


class Machine:
    """Stands for the device: gives a time per lane and step, and notes which stacks were measured."""

    def __init__(self, monkeypatch, step, conv=lambda name, algorithm: 1.0):
        self.asked: list[tuple[int, StackLayout]] = []
        self.step, self.conv = step, conv
        monkeypatch.setattr(measurement, "step_time", self.steps)
        monkeypatch.setattr(measurement, "conv_times", self.conv_times)

    def steps(self, spec, shape, lanes, layout):
        self.asked.append((lanes, layout))
        return self.step(lanes, layout), 1000 * lanes

    def conv_times(self, spec, shape, lanes, memory_format, algorithms):
        return {name: [self.conv(name, each) for each in algorithms] for name in ("conv1", "conv2")}

    def search(self, spec, most, room=lambda: 1000, known=None, seconds=9.0):
        found = {} if known is None else known
        search(spec, LENET, most, found, lambda job: [job(), job()], room=room, seconds=seconds)
        return found


def test_the_fastest_memory_format_and_convolution_algorithms_are_chosen(monkeypatch, make_spec):
    def step(lanes, layout):
        return (
            (1.0 / lanes)
            * (2.0 if layout.memory_format == "channels_last" else 1.0)
            * (0.9 if layout.exceptions else 1)
        )

    machine = Machine(monkeypatch, step, lambda name, each: 0.5 if (name, each) == ("conv2", "lone") else 1.0)
    found = machine.search(make_spec(*QUICK), 4)
    assert found[1].layout == StackLayout("contiguous")
    assert found[4].layout == StackLayout("contiguous", "grouped", {"conv2": "lone"})
    assert found[4].lane_step_s == pytest.approx(0.9 / 4)
    assert found[4].stack_bytes == 4000
    assert not any(layout.memory_format == "channels_last" for lanes, layout in machine.asked if lanes == 4)


def test_an_algorithm_that_makes_the_whole_step_slower_is_not_chosen(monkeypatch, make_spec):
    machine = Machine(
        monkeypatch,
        lambda lanes, layout: 2.0 if layout.exceptions else 1.0,
        lambda name, each: each == "grouped",
    )
    assert machine.search(make_spec(*QUICK), 2)[2].layout.exceptions == {}


def test_a_known_width_is_not_measured_again(monkeypatch, make_spec):
    machine = Machine(monkeypatch, lambda lanes, layout: 1.0 / lanes)
    machine.search(make_spec(*QUICK), 8, known=measured(1.0, 0.5))
    assert sorted({lanes for lanes, _ in machine.asked}) == [4, 8]


def test_engine_words_leave_nothing_to_choose(monkeypatch, make_spec):
    machine = Machine(monkeypatch, lambda lanes, layout: 1.0 / lanes, lambda name, each: each == "grouped")
    words = ["engine.layout=contiguous", "engine.convolution=matmul"]
    machine.search(make_spec(*QUICK, *words), 4)
    assert machine.asked == [(lanes, StackLayout("contiguous", "matmul")) for lanes in (1, 1, 2, 2, 4, 4)]
    machine.asked.clear()
    machine.search(make_spec(*QUICK, *words, "engine.lanes=4"), 8)
    assert machine.asked == []
    found = machine.search(make_spec(*QUICK, "engine.layout=contiguous", "engine.lanes=3"), 8)
    assert list(found) == [3]


def test_the_search_stops_at_the_memory_and_at_the_time_it_has(monkeypatch, make_spec):
    machine = Machine(monkeypatch, lambda lanes, layout: 1.0 / lanes)
    assert list(machine.search(make_spec(*QUICK), 64, room=lambda: 5)) == [1, 2, 4]
    assert list(machine.search(make_spec(*QUICK), 64, seconds=0.0)) == [1, 2, 4, 8, 16]  # the default width


def test_a_gpu_begins_with_32_lanes_or_with_what_the_sweep_and_the_memory_hold(monkeypatch, make_spec):
    """A device stands in: no GPU has run it."""
    monkeypatch.setattr(default_widths, "find_device", lambda name: torch.device("cuda"))
    machine = Machine(monkeypatch, lambda lanes, layout: 1.0 / lanes)
    spec = make_spec(*QUICK)
    assert list(machine.search(spec, 128)) == [32, 64, 128]
    assert list(machine.search(spec, 128, seconds=0.0)) == [32, 64]  # the default width
    assert list(machine.search(spec, 128, room=lambda: 20)) == [16]
    assert list(machine.search(spec, 5)) == [4, 8]


def test_the_lanes_that_fit_into_memory():
    assert lanes_that_fit(100, 1, 1000) == 7
    assert lanes_that_fit(100, 2, 1000) == 3
    assert lanes_that_fit(100, 1, 10) == 1


@pytest.mark.parametrize(
    "layout", [LAYOUT, StackLayout("contiguous", "matmul"), StackLayout("contiguous", "lone")]
)
def test_measured_memory_is_linear_in_lanes(make_spec, layout):
    spec = make_spec(*QUICK)
    seconds, memory = zip(
        *(measurement.step_time(spec, LENET, lanes, layout) for lanes in (1, 2, 4)), strict=True
    )
    assert all(0 < s < 1 for s in seconds)
    if layout.algorithm == "grouped":
        assert memory[1] == pytest.approx(2 * memory[0], rel=0.05)
    assert memory[2] == pytest.approx(2 * memory[1], rel=0.05)


def test_every_convolution_of_the_network_is_timed_by_every_algorithm(make_spec):
    spec = make_spec("model=resnet20", "data=cifar10", "model.width=4", "batch=2", "engine.device=cpu")
    found = measurement.conv_times(
        spec, Shape(3, 32, 10, 50_000, 10_000), 2, "contiguous", ["grouped", "lone"]
    )
    assert len(found) == 19
    assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in found.values())
    assert len({tuple(seconds) for seconds in found.values()}) == 6  # layers of one shape are timed once


def peak(function) -> int:
    """Bytes that torch holds at most in a call, beyond those at its beginning."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        function()
    held = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


@pytest.mark.parametrize(
    "words", [["batch=2"], ["batch=32", "optim=adamw"], ["model=mlp", "batch=32"], ["norm=gn", "model=vgg11"]]
)
def test_memory_is_linear_in_lanes_and_within_the_footprint(make_spec, words):
    spec = make_spec(*QUICK, *SYNTHETIC, *words)
    dataset = data.load(spec.data)
    peaks = {}
    for lanes in (1, 2, 4):
        specs = [spec.model_copy(update={"seed": seed}) for seed in range(lanes)]
        stack = Stack(specs, dataset, CPU, LAYOUT)
        estimate = stack_bytes(Stack(specs, dataset, CPU, LAYOUT))
        weights = 3 if spec.optim.name == "adamw" else 2  # weights and optimiser state exist before the step
        held = weights * sum(p.nbytes for p in stack.network.parameters())
        stack.step(0)
        peaks[lanes] = held + peak(lambda stack=stack: stack.step(1))
        assert 0.5 * estimate < peaks[lanes] < 1.15 * estimate
        assert peaks[lanes] < 1.05 * lanes * models.footprint(spec, dataset.shape)
    assert peaks[2] == pytest.approx(2 * peaks[1], rel=0.1)  # a lone lane saves a copy
    assert peaks[4] == pytest.approx(2 * peaks[2], rel=0.02)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_memory_on_a_gpu_is_linear_in_lanes_and_within_the_measurements(make_spec):
    words = ["model=resnet20", "data=cifar10", "batch=32", "engine.device=cuda", "engine.graphs=false"]
    spec, shape = make_spec(*words), Shape(3, 32, 10, 50_000, 10_000)
    peaks, estimates = [], []
    for lanes in (4, 8, 16):
        estimates.append(measurement.step_time(spec, shape, lanes, StackLayout("contiguous"))[1])
        peaks.append(torch.cuda.max_memory_allocated())
    assert peaks[2] - peaks[1] == pytest.approx(2 * (peaks[1] - peaks[0]), rel=0.1)
    assert all(most <= estimate for most, estimate in zip(peaks, estimates, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_times_replayed_steps_and_convolutions(make_spec):
    spec = make_spec("model=lenet5", "data=mnist", "norm=bn", "batch=2", "engine.device=cuda")
    assert 0 < measurement.step_time(spec, LENET, 8, LAYOUT)[0] < 0.1
    found = measurement.conv_times(spec, LENET, 8, "contiguous", ["grouped", "matmul", "lone"])
    assert all(0 < seconds < 0.1 for each in found.values() for seconds in each)


def test_the_layout_of_a_stack_changes_results_only_by_rounding(make_spec):
    words = [*QUICK, *SYNTHETIC, "data.test_size=32", "engine.precision=fp64", "optim.lr=0.01"]
    specs = [make_spec(*words, f"seed={seed}") for seed in range(3)]
    dataset = data.load(specs[0].data)
    layouts = [
        LAYOUT, StackLayout("contiguous"), StackLayout("contiguous", "matmul"),
        StackLayout("channels_last", "matmul"), StackLayout("channels_last", "lone"),
        StackLayout("contiguous", "grouped", {"body.2.0": "lone"}),
    ]  # fmt: skip
    outcomes = [train_stack(specs, dataset, CPU, layout=layout) for layout in layouts]
    for layout, results in zip(layouts, outcomes, strict=True):
        assert results[0].about["layout"] == layout.memory_format
        for result, first in zip(results, outcomes[0], strict=True):
            assert result.metrics == pytest.approx(first.metrics, rel=1e-9)
    said = [results[0].about["convolution"] for results in outcomes]
    assert said == ["grouped", "grouped", "matmul", "matmul", "lone", "1 grouped, 1 lone"]


def test_one_lane_has_ordinary_convolutions_and_an_mlp_has_none(make_spec):
    assert describe_convolutions(models.build([make_spec(*QUICK)], LENET)) == "ordinary"
    assert describe_convolutions(models.build([make_spec("model=mlp")], LENET)) == ""
