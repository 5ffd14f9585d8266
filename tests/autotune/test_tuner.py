"""How to pack is measured where it pays, once, and remembered; a plan measures nothing."""

from __future__ import annotations

import json

import pytest
import torch

from normbench import events
from normbench.autotune import measurement
from normbench.autotune import tuner as packings
from normbench.autotune.tuner import Tuner
from normbench.engine.stack_layout import StackLayout
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
    """A machine on which four lanes are best and every sweep is worth measuring; the trials it made."""
    made: list[tuple[int, StackLayout]] = []

    def steps(spec, shape, lanes, form):
        made.append((lanes, form))
        return {1: 1.0, 2: 0.6, 4: 0.4}.get(lanes, 0.5), 1000 * lanes

    monkeypatch.setattr(measurement, "step_time", steps)
    monkeypatch.setattr(measurement, "conv_times", lambda *args: {})
    monkeypatch.setattr(packings, "WORTH_S", 0.0)
    monkeypatch.setattr(packings, "PART", 1e9)
    return made


class Log:
    def __init__(self):
        self.events = []

    def notify(self, event):
        self.events.append(event)

    def close(self):
        pass

    @property
    def notices(self):
        return [event.text for event in self.events if isinstance(event, events.Notice)]


def lanes(sweep, store):
    return sorted(len(pack.trainings) for pack in run.Sweep(sweep, store).plan.packs)


def files(store):
    return sorted((store.root / "cache" / "packing").glob("*"))


def test_training_measures_once_and_packs_by_what_it_found(make_sweep, store, machine):
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
    assert log.notices == ["measuring how to pack a stack on this machine; the next sweep remembers"]
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
def test_what_shapes_a_step_is_measured_by_itself(make_sweep, store, machine, words):
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
        lambda text: text.replace('"form"', '"shape"'),
        lambda text: text.replace(torch.__version__, "1.0"),
        lambda text: text.replace(f'"schema": {packings.SCHEMA}', '"schema": -1'),
    ],
    ids=["torn", "foreign", "other fields", "other torch", "other schema"],
)
def test_a_file_that_does_not_fit_is_as_none(make_sweep, store, machine, spoil):
    sweep = make_sweep(*QUICK, "seed=range(8)")
    run.train(sweep, store)
    [file] = files(store)
    file.write_text(spoil(file.read_text()))
    more = make_sweep(*QUICK, "seed=range(20,32)")
    assert lanes(more, store) == [12]
    run.train(more, store)
    assert lanes(make_sweep(*QUICK, "seed=range(40,52)"), store) == [4, 4, 4]
    assert json.loads(file.read_text())["day"]


def test_a_wider_sweep_measures_what_the_narrow_one_did_not_need(make_sweep, store, machine):
    run.train(make_sweep(*QUICK, "seed=range(2)"), store)
    assert sorted({k for k, _ in machine}) == [1, 2]
    machine.clear()
    run.train(make_sweep(*QUICK, "seed=range(10,18)"), store)
    assert sorted({k for k, _ in machine}) == [4, 8]


def test_explicit_lanes_win(make_sweep, store, machine):
    run.train(make_sweep(*QUICK, "seed=range(8)"), store)
    sweep = make_sweep(*QUICK, "seed=range(20,26)", "engine.lanes=3")
    assert lanes(sweep, store) == [3, 3]
    assert run.Sweep(sweep, store).tuning_lines()[0].startswith("at most 3 lanes a stack as asked")


def test_explicit_forms_win(make_sweep, store):
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
    monkeypatch.setattr(packings, "WORTH_S", 30.0)
    run.train(make_sweep(*QUICK, "seed=range(8)"), store)
    assert (machine, files(store)) == ([], [])


def test_lanes_shrink_with_the_memory_there_is(make_sweep, store, monkeypatch):
    sweep = make_sweep(*QUICK, "seed=range(16)")
    assert lanes(sweep, store) == [16]
    bytes_per_lane = run.Sweep(sweep[:1], store).estimate().memory
    monkeypatch.setattr(packings, "free", lambda device: 6 * bytes_per_lane)
    assert lanes(sweep, store) == [4, 4, 4, 4]  # a part of it is left free
    [line] = run.Sweep(sweep, store).tuning_lines()
    assert line.startswith("at most 4 lanes a stack as memory allows")
    monkeypatch.setattr(packings, "free", lambda device: 0)
    assert lanes(sweep, store) == [1] * 16


def test_stacks_at_the_same_time_share_the_memory(make_spec, tmp_path, monkeypatch):
    monkeypatch.setattr(packings, "free", lambda device: 1 << 20)
    one, two = (Tuner(tmp_path, stacks).capacity(make_spec(*QUICK)) for stacks in (1, 2))
    assert one == pytest.approx(2 * two, abs=1)


@pytest.mark.parametrize("broken", [1, 4])
def test_a_trial_that_fails_is_said_and_costs_nothing_else(make_sweep, store, machine, monkeypatch, broken):
    def steps(spec, shape, lanes, form):
        if lanes == broken:
            raise torch.OutOfMemoryError("out of memory\nat length")
        return 1.0 / lanes, 1000

    monkeypatch.setattr(measurement, "step_time", steps)
    log = Log()
    sweep = make_sweep(*QUICK, "seed=range(8)")
    records = run.train(sweep, store, [log])
    assert [record.status for record in records] == ["complete"] * 8
    assert log.notices[1] == "packing of mlp with norm=bn: a trial failed: OutOfMemoryError: out of memory"
    assert {record.provenance["stack_size"] for record in records} == {8 if broken == 1 else 2}


def test_workers_measure_together_and_train_in_the_form_they_found(make_sweep, store, monkeypatch):
    monkeypatch.setattr(packings, "WORTH_S", 0.0)
    monkeypatch.setattr(packings, "PART", 1e9)
    log = Log()
    words = [*QUICK[2:], "model=lenet5", "batch=2", "engine.processes=2", "seed=range(4)"]
    records = run.train(make_sweep(*words), store, [log])
    assert [record.status for record in records] == ["complete"] * 4
    assert log.notices == ["measuring how to pack a stack on this machine; the next sweep remembers"]
    [file] = files(store)
    kept = json.loads(file.read_text())
    assert [found["lanes"] for found in kept["trials"]] == [1, 2]
    assert (kept["key"]["stacks"], kept["key"]["threads"], kept["searched"]) == (2, 1, 2)
    forms = {found["lanes"]: found["form"]["layout"] for found in kept["trials"]}
    assert all(r.provenance["layout"] == forms[r.provenance["stack_size"]] for r in records)
