"""How to pack is found by trials: few, in the right order, never past the memory there is."""

from __future__ import annotations

import pytest
import torch

from normbench import data, models
from normbench.autotune import measurement
from normbench.autotune.memory import affordable, taken
from normbench.autotune.search import search
from normbench.autotune.tuning import Measurement, Tuning, best_width, measured_widths, next_width
from normbench.data.shape import Shape
from normbench.engine.stack import Stack
from normbench.engine.stack_layout import StackLayout, describe_convolutions
from normbench.engine.train import train_stack

CPU = torch.device("cpu")
FORM = StackLayout("channels_last")
LENET = Shape(1, 32, 10, 60_000, 10_000)
SYNTHETIC = ["data=synthetic", "data.train_size=64", "data.channels=1", "data.size=32"]
QUICK = ["model=lenet5", "data=mnist", "norm=bn", "batch=4", "steps=10", "engine.device=cpu"]


def trials(*seconds: float) -> dict[int, Measurement]:
    """What 1, 2, 4, … lanes took."""
    return {2**i: Measurement(2**i, FORM, s, 1000 * 2**i) for i, s in enumerate(seconds)}


@pytest.mark.parametrize(
    ("seconds", "most", "then", "chosen"),
    [
        ([1.0], 1, None, 1),
        ([1.0], 3, 2, 1),
        ([1.0, 0.8], 3, 4, 2),
        ([1.0, 0.8, 0.5], 3, None, 4),  # the first power of two that holds them all
        ([1.0, 1.04], 64, 4, 1),  # no worse yet
        ([1.0, 1.06], 64, 4, 1),  # worse, but once is never
        ([1.0, 1.06, 1.06], 64, None, 1),
        ([1.0, 1.06, 0.8], 64, 8, 4),
        ([1.0, 0.8, 0.79], 64, 8, 2),  # as good with fewer lanes
        ([1.0, 0.8, 0.7, 0.75], 64, 16, 4),
        ([1.0, 0.8, 0.7, 0.75, 0.8], 64, None, 4),
    ],
)
def test_the_climb_stops_where_lanes_pay_no_longer(seconds, most, then, chosen):
    known = measured_widths(trials(*seconds))
    assert next_width(known, most) == then
    assert best_width(known) == chosen


def test_as_many_lanes_as_the_table_has_are_tried_whatever_fewer_took():
    known = measured_widths(trials(1.0, 1.2, 1.4))
    assert next_width(known, 64, least=4) is None
    assert next_width(known, 64, least=16) == 8
    assert next_width(known, 3, least=16) is None


def test_a_gap_ends_what_is_known_of_the_climb():
    assert measured_widths({1: Measurement(1, FORM, 1.0, 1), 4: Measurement(4, FORM, 0.1, 1)}) == [
        Measurement(1, FORM, 1.0, 1)
    ]
    assert measured_widths({}) == []
    assert next_width([], 8) == 1


def test_a_stack_takes_the_form_of_the_trial_with_about_as_many_lanes():
    made = tuple(
        Measurement(k, StackLayout(layout), 1.0, 1) for k, layout in ((1, "contiguous"), (8, "channels_last"))
    )
    packing = Tuning(8, "", FORM, made)
    assert [packing.at(k).layout for k in (1, 2, 3, 8, 64)] == ["contiguous"] * 2 + ["channels_last"] * 3
    assert Tuning(8, "", FORM).at(3) is FORM


class Machine:
    """Stands for the device: what a step of a lane takes, by lanes and form, and what was asked of it."""

    def __init__(self, monkeypatch, step, way=lambda name, kind: 1.0):
        self.asked: list[tuple[int, StackLayout]] = []
        self.step, self.way = step, way
        monkeypatch.setattr(measurement, "step_time", self.steps)
        monkeypatch.setattr(measurement, "conv_times", self.conv_times)

    def steps(self, spec, shape, lanes, form):
        self.asked.append((lanes, form))
        return self.step(lanes, form), 1000 * lanes

    def conv_times(self, spec, shape, lanes, layout, kinds):
        return {name: [self.way(name, kind) for kind in kinds] for name in ("conv1", "conv2")}

    def search(self, spec, most, room=lambda: 1000, known=None, seconds=9.0):
        found = {} if known is None else known
        search(spec, LENET, most, found, lambda job: [job(), job()], room=room, seconds=seconds)
        return found


def test_layouts_and_convolutions_that_are_faster_are_chosen(monkeypatch, make_spec):
    def step(lanes, form):
        return (
            (1.0 / lanes) * (2.0 if form.layout == "channels_last" else 1.0) * (0.9 if form.exceptions else 1)
        )

    machine = Machine(monkeypatch, step, lambda name, kind: 0.5 if (name, kind) == ("conv2", "lone") else 1.0)
    found = machine.search(make_spec(*QUICK), 4)
    assert found[1].form == StackLayout("contiguous")
    assert found[4].form == StackLayout("contiguous", "grouped", {"conv2": "lone"})
    assert found[4].seconds == pytest.approx(0.9 / 4)
    assert found[4].bytes == 4000
    assert not any(form.layout == "channels_last" for lanes, form in machine.asked if lanes == 4)


def test_a_convolution_that_is_slower_in_the_whole_step_is_not_taken(monkeypatch, make_spec):
    machine = Machine(
        monkeypatch, lambda lanes, form: 2.0 if form.exceptions else 1.0, lambda name, kind: kind == "grouped"
    )
    assert machine.search(make_spec(*QUICK), 2)[2].form.exceptions == {}


def test_what_is_known_is_not_tried_again(monkeypatch, make_spec):
    machine = Machine(monkeypatch, lambda lanes, form: 1.0 / lanes)
    machine.search(make_spec(*QUICK), 8, known=trials(1.0, 0.5))
    assert sorted({lanes for lanes, _ in machine.asked}) == [4, 8]


def test_explicit_knobs_leave_nothing_to_choose(monkeypatch, make_spec):
    machine = Machine(monkeypatch, lambda lanes, form: 1.0 / lanes, lambda name, kind: kind == "grouped")
    words = ["engine.layout=contiguous", "engine.convolution=matmul"]
    machine.search(make_spec(*QUICK, *words), 4)
    assert machine.asked == [(lanes, StackLayout("contiguous", "matmul")) for lanes in (1, 1, 2, 2, 4, 4)]
    machine.asked.clear()
    machine.search(make_spec(*QUICK, *words, "engine.lanes=4"), 8)
    assert machine.asked == []
    found = machine.search(make_spec(*QUICK, "engine.layout=contiguous", "engine.lanes=3"), 8)
    assert list(found) == [3]


def test_no_more_lanes_than_fit_and_no_longer_than_allowed(monkeypatch, make_spec):
    machine = Machine(monkeypatch, lambda lanes, form: 1.0 / lanes)
    assert list(machine.search(make_spec(*QUICK), 64, room=lambda: 5)) == [1, 2, 4]
    assert list(machine.search(make_spec(*QUICK), 64, seconds=0.0)) == [1, 2, 4, 8, 16]  # the table's


def test_lanes_that_memory_has_room_for():
    assert affordable(100, 1, 1000) == 7
    assert affordable(100, 2, 1000) == 3
    assert affordable(100, 1, 10) == 1


@pytest.mark.parametrize(
    "form", [FORM, StackLayout("contiguous", "matmul"), StackLayout("contiguous", "lone")]
)
def test_a_trial_times_steps_and_counts_memory_that_is_linear_in_lanes(make_spec, form):
    spec = make_spec(*QUICK)
    seconds, memory = zip(
        *(measurement.step_time(spec, LENET, lanes, form) for lanes in (1, 2, 4)), strict=True
    )
    assert all(0 < s < 1 for s in seconds)
    if form.convolution == "grouped":
        assert memory[1] == pytest.approx(2 * memory[0], rel=0.05)
    assert memory[2] == pytest.approx(2 * memory[1], rel=0.05)


def test_every_convolution_is_timed_in_every_way_as_it_stands_in_the_net(make_spec):
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
        stack = Stack(specs, dataset, CPU, FORM)
        estimate = taken(Stack(specs, dataset, CPU, FORM))
        weights = 3 if spec.optim.name == "adamw" else 2  # they and the optimiser's state are there before
        held = weights * sum(p.nbytes for p in stack.network.parameters())
        stack.step(0)
        peaks[lanes] = held + peak(lambda stack=stack: stack.step(1))
        assert 0.5 * estimate < peaks[lanes] < 1.15 * estimate
        assert peaks[lanes] < 1.05 * lanes * models.footprint(spec, dataset.shape)
    assert peaks[2] == pytest.approx(2 * peaks[1], rel=0.1)  # a lone lane is spared a copy
    assert peaks[4] == pytest.approx(2 * peaks[2], rel=0.02)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_memory_on_a_gpu_is_linear_in_lanes_and_within_the_trials(make_spec):
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
def test_a_gpu_times_steps_and_convolutions_as_it_replays_them(make_spec):
    spec = make_spec("model=lenet5", "data=mnist", "norm=bn", "batch=2", "engine.device=cuda")
    assert 0 < measurement.step_time(spec, LENET, 8, FORM)[0] < 0.1
    found = measurement.conv_times(spec, LENET, 8, "contiguous", ["grouped", "matmul", "lone"])
    assert all(0 < seconds < 0.1 for each in found.values() for seconds in each)


def test_the_form_of_a_stack_changes_no_result_beyond_rounding(make_spec):
    words = [*QUICK, *SYNTHETIC, "data.test_size=32", "engine.precision=fp64", "optim.lr=0.01"]
    specs = [make_spec(*words, f"seed={seed}") for seed in range(3)]
    dataset = data.load(specs[0].data)
    forms = [
        FORM, StackLayout("contiguous"), StackLayout("contiguous", "matmul"),
        StackLayout("channels_last", "matmul"), StackLayout("channels_last", "lone"),
        StackLayout("contiguous", "grouped", {"body.2.0": "lone"}),
    ]  # fmt: skip
    outcomes = [train_stack(specs, dataset, CPU, form=form) for form in forms]
    for form, results in zip(forms, outcomes, strict=True):
        assert results[0].about["layout"] == form.layout
        for result, first in zip(results, outcomes[0], strict=True):
            assert result.metrics == pytest.approx(first.metrics, rel=1e-9)
    said = [results[0].about["convolution"] for results in outcomes]
    assert said == ["grouped", "grouped", "matmul", "matmul", "lone", "1 grouped, 1 lone"]


def test_one_lane_and_no_convolution_are_said_as_they_are(make_spec):
    assert describe_convolutions(models.build([make_spec(*QUICK)], LENET)) == "ordinary"
    assert describe_convolutions(models.build([make_spec("model=mlp")], LENET)) == ""
