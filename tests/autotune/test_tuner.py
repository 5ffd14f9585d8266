"""A long sweep measures its stacks once and remembers the result; a plan measures nothing."""

from __future__ import annotations

import json

import pytest
import torch

from event_log import Log
from normbench import events
from normbench.autotune import measurement, tuner, workload
from normbench.autotune.tuner import Tuner
from normbench.engine.device import device_name
from normbench.engine.stack_layout import StackLayout
from normbench.record import COMPLETE, Record
from normbench.store import Store
from normbench.sweeps import get_or_train as run

QUICK = [
    "model=mlp", "model.hidden=[16]", "steps=20", "tracking=none", "engine.processes=1", "engine.device=cpu",
]  # fmt: skip


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


@pytest.fixture
def machine(monkeypatch):
    """A machine on which four lanes are best and every sweep is measured; the stacks that it measured."""
    made: list[tuple[int, StackLayout]] = []

    def steps(spec, shape, lanes, layout):
        made.append((lanes, layout))
        return {1: 1.0, 2: 0.6, 4: 0.4}.get(lanes, 0.5), 1000 * lanes

    monkeypatch.setattr(measurement, "step_time", steps)
    monkeypatch.setattr(measurement, "conv_times", lambda *args: {})
    monkeypatch.setattr(tuner, "WORTH_S", 0.0)
    monkeypatch.setattr(tuner, "PART", 1e9)
    return made


def lanes(sweep, store):
    return sorted(len(pack.trainings) for pack in run.Sweep(sweep, store).plan.packs)


def files(store):
    return sorted((store.root / "cache" / "tuning").glob("*"))


def test_training_measures_once_and_uses_the_best_width(make_sweep, store, machine):
    sweep = make_sweep(*QUICK, "seed=range(12)")
    assert lanes(sweep, store) == [12]
    assert run.Sweep(sweep, store).tuning_lines() == [
        "at most 16 lanes a stack by default, channels_last; training measures first"
    ]
    assert (machine, files(store)) == ([], [])  # a plan measures and writes nothing
    log = Log()
    records = run.train(sweep, store, [log])
    assert sorted({k for k, _ in machine}) == [1, 2, 4, 8, 16]
    assert {record.provenance["stack_size"] for record in records} == {4}
    assert log.notices == ["measuring the best width of a stack on this machine; the next sweep remembers it"]
    assert isinstance(log.events[1], events.SweepStarted)
    assert log.events[1].stacks == 3
    machine.clear()
    more = make_sweep(*QUICK, "seed=range(20,28)", "optim.lr=0.3", "steps=30")
    assert lanes(more, store) == [4, 4]
    [line] = run.Sweep(more, store).tuning_lines()
    assert line.startswith("at most 4 lanes a stack as measured here 20")
    log = Log()
    run.train(more, store, [log])
    assert (machine, log.notices) == ([], [])


@pytest.mark.parametrize(
    "words", [["norm=gn"], ["batch=16"], ["model.hidden=[17]"], ["engine.layout=contiguous"], ["optim=adamw"]]
)
def test_a_field_that_changes_a_step_s_cost_makes_another_workload(make_sweep, store, machine, words):
    run.train(make_sweep(*QUICK, "seed=range(8)"), store)
    machine.clear()
    run.train(make_sweep(*QUICK, *words, "seed=range(10,18)"), store)
    assert machine
    assert len(files(store)) == 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace('"layout": {', '"form": {'),
        lambda text: text.replace(torch.__version__, "1.0"),
        lambda text: text.replace(f'"schema": {workload.SCHEMA}', '"schema": -1'),
    ],
    ids=["torn", "foreign", "other fields", "other torch", "other schema"],
)
def test_a_damaged_or_foreign_file_is_ignored(make_sweep, store, machine, spoil):
    sweep = make_sweep(*QUICK, "seed=range(8)")
    run.train(sweep, store)
    [file] = files(store)
    file.write_text(spoil(file.read_text()))
    more = make_sweep(*QUICK, "seed=range(20,32)")
    assert lanes(more, store) == [12]
    run.train(more, store)
    assert lanes(make_sweep(*QUICK, "seed=range(40,52)"), store) == [4, 4, 4]
    assert json.loads(file.read_text())["day"]


def test_a_wider_sweep_measures_the_widths_that_are_missing(make_sweep, store, machine):
    run.train(make_sweep(*QUICK, "seed=range(2)"), store)
    assert sorted({k for k, _ in machine}) == [1, 2]
    machine.clear()
    run.train(make_sweep(*QUICK, "seed=range(10,18)"), store)
    assert sorted({k for k, _ in machine}) == [4, 8]


def test_engine_lanes_overrides_the_measured_width(make_sweep, store, machine):
    run.train(make_sweep(*QUICK, "seed=range(8)"), store)
    sweep = make_sweep(*QUICK, "seed=range(20,26)", "engine.lanes=3")
    assert lanes(sweep, store) == [3, 3]
    assert run.Sweep(sweep, store).tuning_lines()[0].startswith("at most 3 lanes a stack as asked")


def test_engine_layout_and_convolution_override_the_measured_layout(make_sweep, store):
    words = [
        "model=lenet5",
        "steps=2",
        "engine.layout=contiguous",
        "engine.convolution=lone",
        "seed=range(2)",
    ]
    for record in run.train(make_sweep(*QUICK[2:], *words), store):
        assert (record.provenance["layout"], record.provenance["convolution"]) == ("contiguous", "lone")


def test_short_sweeps_are_not_measured(make_sweep, store, machine, monkeypatch):
    monkeypatch.setattr(tuner, "WORTH_S", 30.0)
    run.train(make_sweep(*QUICK, "seed=range(8)"), store)
    assert (machine, files(store)) == ([], [])


def test_lanes_shrink_with_the_free_memory(make_sweep, store, monkeypatch):
    sweep = make_sweep(*QUICK, "seed=range(16)")
    assert lanes(sweep, store) == [16]
    bytes_per_lane = run.Sweep(sweep[:1], store).estimate().memory
    monkeypatch.setattr(workload, "free_bytes", lambda device: 6 * bytes_per_lane)
    assert lanes(sweep, store) == [4, 4, 4, 4]  # a part of it is left free
    [line] = run.Sweep(sweep, store).tuning_lines()
    assert line.startswith("at most 4 lanes a stack as memory allows")
    monkeypatch.setattr(workload, "free_bytes", lambda device: 0)
    assert lanes(sweep, store) == [1] * 16


def test_stacks_that_train_at_the_same_time_share_the_memory(make_spec, tmp_path, monkeypatch):
    monkeypatch.setattr(workload, "free_bytes", lambda device: 1 << 20)
    one, two = (Tuner(tmp_path, stacks).capacity(make_spec(*QUICK)) for stacks in (1, 2))
    assert one == pytest.approx(2 * two, abs=1)


@pytest.mark.parametrize("broken", [1, 4])
def test_a_failed_measurement_is_reported_and_stops_nothing(make_sweep, store, machine, monkeypatch, broken):
    def steps(spec, shape, lanes, layout):
        if lanes == broken:
            raise torch.OutOfMemoryError("out of memory\nat length")
        return 1.0 / lanes, 1000

    monkeypatch.setattr(measurement, "step_time", steps)
    log = Log()
    sweep = make_sweep(*QUICK, "seed=range(8)")
    records = run.train(sweep, store, [log])
    assert [record.status for record in records] == ["complete"] * 8
    assert log.notices[1] == "measuring mlp with norm=bn failed: OutOfMemoryError: out of memory"
    assert {record.provenance["stack_size"] for record in records} == {8 if broken == 1 else 2}


def test_workers_measure_at_the_same_time_and_train_in_the_layout_they_found(make_sweep, store, monkeypatch):
    monkeypatch.setattr(tuner, "WORTH_S", 0.0)
    monkeypatch.setattr(tuner, "PART", 1e9)
    log = Log()
    words = [*QUICK[2:], "model=lenet5", "batch=2", "engine.processes=2", "seed=range(4)"]
    records = run.train(make_sweep(*words), store, [log])
    assert [record.status for record in records] == ["complete"] * 4
    assert log.notices == ["measuring the best width of a stack on this machine; the next sweep remembers it"]
    [file] = files(store)
    kept = json.loads(file.read_text())
    assert [found["lanes"] for found in kept["measurements"]] == [1, 2]
    assert (kept["key"]["stacks"], kept["key"]["threads"], kept["searched"]) == (2, 1, 2)
    formats = {found["lanes"]: found["layout"]["memory_format"] for found in kept["measurements"]}
    assert all(r.provenance["layout"] == formats[r.provenance["stack_size"]] for r in records)


def test_the_records_of_the_store_are_not_read_for_a_short_sweep(make_sweep, tmp_path):
    runs = [r.spec for r in make_sweep(*QUICK, "seed=range(4)")]
    assert list(Tuner(tmp_path, 1, ended=pytest.fail).measure([runs], lambda job: [job()])) == []


def test_a_sweep_is_measured_if_runs_like_it_took_long_enough(make_sweep, store, machine, monkeypatch):
    """The guess is under two minutes, the runs that have ended are far slower."""
    monkeypatch.setattr(tuner, "WORTH_S", 120.0)
    slow = make_sweep(*QUICK, "steps=80000", "seed=99")[0].spec
    steps_per_s = 10.0
    record = Record(
        signature=slow.signature,
        spec=slow.model_dump(mode="json"),
        status=COMPLETE,
        metrics={},
        timing={"stack_s": 8000.0, "train_s": 8000.0, "steps_per_s": steps_per_s},
        environment={"device": device_name(torch.device("cpu"))},
        provenance={"stack_size": 1},
    )
    runs = [r.spec for r in make_sweep(*QUICK, "steps=80000", "seed=range(2)")]
    for ended, measured in (([], False), ([record], True)):
        notes = list(
            Tuner(store.root, 1, ended=lambda ended=ended: ended).measure([runs], lambda job: [job()])
        )
        assert bool(notes) == bool(machine) == measured
