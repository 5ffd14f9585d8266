"""The orders of the next epoch are drawn in a thread, and a step sees the same images."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
import torch

from normbench.data import batches
from normbench.data.batches import Batches
from normbench.data.orders_ahead import OrdersAhead


def threads() -> int:
    return sum(thread.name.startswith("orders") for thread in threading.enumerate())


@pytest.fixture
def as_on_a_gpu(monkeypatch) -> None:
    monkeypatch.setattr(batches, "AHEAD_ON", ("cpu",))


def test_a_step_sees_the_images_that_it_sees_without_the_thread(tiny, monkeypatch):
    dataset, steps = tiny(), [0, 1, 7, 8, 9, 30, 17, 16, 3]  # four steps per epoch, not in their order
    alone = Batches(dataset, (3, 1), 8, flip=True, crop=2)
    monkeypatch.setattr(batches, "AHEAD_ON", ("cpu",))
    ahead = Batches(dataset, (3, 1), 8, flip=True, crop=2)
    assert ahead.steps_per_epoch == 4
    for step in steps:
        for a, b in zip(alone.at(step), ahead.at(step), strict=True):
            assert torch.equal(a, b)
    ahead.close()
    assert all(torch.equal(a, b) for a, b in zip(alone.at(21), ahead.at(21), strict=True))


def test_the_next_epoch_is_drawn_before_it_is_asked_for():
    drawn, begun = [], threading.Event()

    def draw(epoch: int) -> torch.Tensor:
        drawn.append((epoch, threading.current_thread() is not threading.main_thread()))
        if epoch == 1:
            begun.set()
        return torch.tensor(epoch)

    ahead = OrdersAhead(draw)
    assert ahead(0) == 0
    assert begun.wait(10)
    assert [ahead(epoch).item() for epoch in (1, 2, 7)] == [1, 2, 7]
    ahead.close()
    assert drawn[:4] == [(0, True), (1, True), (2, True), (3, True)]


def test_an_error_of_the_draw_is_raised_by_the_step_that_needs_it():
    def draw(epoch: int) -> torch.Tensor:
        if epoch == 1:
            raise MemoryError
        return torch.tensor(epoch)

    ahead = OrdersAhead(draw)
    ahead(0)
    with pytest.raises(MemoryError):
        ahead(1)
    ahead.close()


@pytest.mark.usefixtures("as_on_a_gpu")
def test_closed_batches_have_no_thread_and_are_freed_without_the_collector(tiny):
    gc.collect()
    gc.disable()
    try:
        before = threads()
        made = Batches(tiny(), (0, 1), 8)
        made.at(0)
        assert threads() == before + 1
        made.close()
        assert threads() == before
        reference = weakref.ref(made)
        del made
        assert reference() is None
    finally:
        gc.enable()
