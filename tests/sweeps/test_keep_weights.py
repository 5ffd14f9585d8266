"""Final states are kept up to a size per run and a size in all, which plans announce."""

from __future__ import annotations

import pytest

from normbench.engine.final_state import read
from normbench.store import Store
from normbench.sweeps import get_or_train as run
from normbench.sweeps import keep_weights

QUICK = [
    "model=mlp", "model.hidden=[8]", "steps=4", "batch=8", "norm=gn", "data=synthetic", "data.train_size=32",
    "data.test_size=8", "data.channels=1", "data.size=4", "engine.processes=1",
]  # fmt: skip


@pytest.fixture
def kept(make_sweep, tmp_path):
    """A function from words to the number of runs whose final state is kept, and the line of the plan."""

    def kept(*words):
        store = Store(tmp_path)
        sweep = run.Sweep(make_sweep(*QUICK, *words), store)
        (line,) = sweep.weights_lines()
        records = run.train(make_sweep(*QUICK, *words), store)
        return sum(store.weights_file(record.signature).is_file() for record in records), line

    return kept


@pytest.fixture
def size(make_sweep, tmp_path):
    """Bytes of one final state."""
    store = Store(tmp_path / "one")
    (record,) = run.train(make_sweep(*QUICK, "seed=99"), store)
    state = read(store.weights_file(record.signature), record.signature)
    return sum(tensor.nbytes for tensor in state.values())


def test_small_states_are_all_kept(kept):
    count, line = kept("seed=range(3)")
    assert (count, line.partition(":")[0]) == (3, "final states")
    assert "for 3 runs" in line


def test_a_state_above_the_size_per_run_is_not_kept_unless_asked_for(kept, size, monkeypatch):
    monkeypatch.setattr(keep_weights, "KEPT_PER_RUN", size - 1)
    count, line = kept("seed=range(2)")
    assert count == 0
    assert "2 runs are too large and keep none" in line
    assert kept("seed=range(2,4)", "keep_weights=true")[0] == 2


def test_states_are_kept_until_the_store_is_full(kept, size, monkeypatch):
    monkeypatch.setattr(keep_weights, "KEPT_PER_RUN", size)
    monkeypatch.setattr(keep_weights, "KEPT_IN_ALL", 2 * size)
    count, line = kept("seed=range(4)")
    assert count == 2
    assert "for 2 runs" in line
    assert kept("seed=range(4,6)")[0] == 0


def test_nothing_is_kept_if_that_is_asked_for(kept):
    count, line = kept("seed=0", "keep_weights=false")
    assert count == 0
    assert "not kept" in line


def test_both_limits_hold_to_the_byte():
    one, whole = keep_weights.KEPT_PER_RUN, keep_weights.KEPT_IN_ALL
    assert keep_weights.fits(one, 0)
    assert not keep_weights.fits(one + 1, 0)
    assert keep_weights.fits(10, whole - 10)
    assert not keep_weights.fits(10, whole - 9)
