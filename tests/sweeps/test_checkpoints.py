"""Checkpoints: a run goes on from any step with the same bits, and never from what is not its own."""

from __future__ import annotations

import pytest
import torch

from event_log import Log
from normbench import data
from normbench.engine.pulse import Pulse
from normbench.engine.train import Listener, train_stack
from normbench.store import Store
from normbench.sweeps import checkpointer, checkpoints, get_or_train

CPU = torch.device("cpu")
QUICK = [
    "model=mlp", "model.hidden=[8]", "data=synthetic", "data.train_size=64", "data.test_size=16",
    "data.size=8", "batch=8", "steps=160", "norm=bn", "tracking=none",
    "engine.device=cpu", "engine.processes=1",
]  # fmt: skip


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


@pytest.fixture
def spec(make_spec):
    return make_spec(*QUICK)


def states_at_every_step(specs, dataset):
    """The results of a stack, and its states by step."""
    kept, pulse = {}, Pulse(wanted=True)

    def keep(states):
        kept[pulse.step] = states()

    return train_stack(specs, dataset, CPU, Listener(checkpoint=keep, pulse=pulse)), kept


def test_a_run_goes_on_between_two_points_of_its_curve_with_the_same_bits(make_spec):
    specs = [make_spec(*QUICK, f"seed={seed}") for seed in (0, 1)]
    dataset = data.load(specs[0].data)
    whole, kept = states_at_every_step(specs, dataset)
    assert sorted(kept) == list(range(1, 160))
    step = next(step for step in range(80, 160) if kept[step][0]["counted"] == 2)
    resumed = train_stack(specs, dataset, CPU, resume=kept[step])
    assert [result.history for result in resumed] == [result.history for result in whole]
    assert [result.metrics for result in resumed] == [result.metrics for result in whole]
    for one, two in zip(resumed, whole, strict=True):
        assert all(torch.equal(tensor, two.final_state[name]) for name, tensor in one.final_state.items())


@pytest.fixture(scope="module")
def trained():
    """A state of step 101 of a run, and what makes it another."""
    return {}


@pytest.fixture
def state(spec, trained):
    if not trained:
        trained.update(states_at_every_step([spec], data.load(spec.data))[1])
    state = trained[101][0]
    return state | {"tensors": {name: tensor.clone() for name, tensor in state["tensors"].items()}}


def save(state, spec, store, **changes):
    """Write a checkpoint as the worker does, with changes to what the file holds."""
    checkpoints.save(state, spec, spec.steps, store, lambda: None)
    if changes:
        file = store.checkpoint_file(spec.signature)
        torch.save(torch.load(file, weights_only=True) | changes, file)


def test_a_checkpoint_is_read_as_it_was_written_and_says_how_far_it_is(state, spec, store):
    save(state, spec, store)
    loaded = checkpoints.load(spec, 160, store, pytest.fail)
    assert loaded["step"] == 101
    assert all(torch.equal(loaded["tensors"][name], t) for name, t in state["tensors"].items())
    known = store.unfinished(spec.signature)
    assert (known.step, known.steps, known.spec["seed"]) == (101, 160, 0)
    assert known.curve[-1]["step"] == 101 - state["counted"]
    assert sorted(file.name for file in store.run_folder(spec.signature).iterdir()) == [
        "checkpoint.json", "checkpoint.pt",
    ]  # fmt: skip


UNFIT = {
    "of an older format": {"format": 1},
    "of another run": {"signature": "0" * 16},
    "of another length": {"steps": 200},
    "at the end": {"step": 160, "counted": 0, "history": [{"step": 160, "train_loss": 1.0}]},
    "beyond the end": {"step": 1000, "counted": 0, "history": [{"step": 1000, "train_loss": 1.0}]},
    "at step 0": {"step": 0},
    "at no whole step": {"step": 100.5},
    "that is negative": {"counted": -1},
    "with another curve": {"history": [{"step": 3, "train_loss": 1.0}]},
    "with a damaged curve": {"history": [{"train_loss": 1.0}]},
    "without a curve": {"history": None},
    "without tensors": {"tensors": [torch.zeros(3)]},
    "with damaged diagnostics": {"diagnostics": 3},
}


@pytest.mark.parametrize("changes", UNFIT.values(), ids=UNFIT)
def test_a_checkpoint_that_does_not_fit_is_set_aside_with_one_line(changes, state, spec, store):
    save(state, spec, store, **changes)
    said = []
    assert checkpoints.load(spec, 160, store, said.append) is None
    [line] = said
    assert line.startswith(f"run {spec.signature} starts from step 0: its checkpoint does not fit: ")
    assert not store.checkpoint_file(spec.signature).exists()
    assert len(list(store.run_folder(spec.signature).glob("checkpoint-set-aside-*.pt"))) == 1


def other_names(tensors):
    return {f"{name}.x": tensor for name, tensor in tensors.items()}


def other_shapes(tensors):
    return {name: torch.zeros(5, dtype=tensor.dtype) for name, tensor in tensors.items()}


def other_types(tensors):
    return {
        name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()
    }


@pytest.mark.parametrize("change", [other_names, other_shapes, other_types])
def test_tensors_of_another_network_are_set_aside_and_the_others_of_the_stack_resume(
    change, state, make_sweep, store
):
    sweep = make_sweep(*QUICK, "seed=0,1")
    for resolved in sweep:
        spec = resolved.spec
        save(state, spec, store, **({"tensors": change(state["tensors"])} if spec.seed else {}))
    log = Log()
    records = get_or_train.train(sweep, store, [log])
    assert [record.status for record in records] == ["complete"] * 2
    assert [record.provenance["resumed_from"] for record in records] == [101, 0]
    assert sum("does not fit" in text for text in log.notices) == 1
    assert sorted(file.name for file in store.run_folder(records[1].signature).iterdir()) == [
        "config.yaml", "history.jsonl", "record.json", "weights.safetensors",
    ]  # fmt: skip


@pytest.mark.parametrize("content", [b"half a checkpoi", b"", None, [1, 2], {"step": 3}])
def test_what_is_no_checkpoint_is_set_aside(content, spec, store):
    file = store.checkpoint_file(spec.signature)
    file.parent.mkdir(parents=True)
    if content is None:
        file.mkdir()
    elif isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    said = []
    assert checkpoints.load(spec, 160, store, said.append) is None
    assert len(said) == 1
    assert not file.exists()


def test_a_checkpoint_is_on_disk_before_it_replaces_the_earlier_one(state, spec, store, monkeypatch):
    done = []
    monkeypatch.setattr("os.fsync", lambda descriptor: done.append("fsync"))
    replace = checkpoints.os.replace
    monkeypatch.setattr("os.replace", lambda a, b: (done.append("rename"), replace(a, b)))
    save(state, spec, store)
    assert done[:3] == ["fsync", "rename", "fsync"]  # the content, the name, and the folder with the name


def test_a_checkpoint_of_a_process_that_lost_its_lease_is_not_written(state, spec, store):
    def lost():
        raise LookupError

    with pytest.raises(LookupError):
        checkpoints.save(state, spec, 160, store, lost)
    assert list(store.run_folder(spec.signature).iterdir()) == []


def test_checkpoints_are_wanted_and_leases_renewed_in_time(monkeypatch):
    class Leases:
        renewed = 0

        def renew(self, pulse):
            self.renewed += 1

    now, leases = [0.0], Leases()
    clockwork = checkpointer.Clockwork(leases, lambda: now[0])
    pulse = Pulse()
    monkeypatch.setattr(checkpointer.STOP, "pulse", pulse)
    wanted = 0
    for second in range(1, 61):
        now[0] = float(second)
        clockwork()
        wanted, pulse.wanted = wanted + pulse.wanted, False
    assert (wanted, leases.renewed) == (3, 6)
