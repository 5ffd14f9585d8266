"""The counter of saved bytes counts each storage once, and the clock waits for the device."""

from __future__ import annotations

import pytest
import torch

from normbench.instruments import SavedBytes, now


def test_a_storage_that_is_saved_twice_counts_once():
    x = torch.ones(10, requires_grad=True)
    with SavedBytes() as saved:
        _alive = (x * x, x[:5].square())  # x is saved three times, twice as a view or whole
    assert saved.total == 40


def test_tensors_of_different_storages_add_up():
    x, y = torch.ones(10, requires_grad=True), torch.ones(10, dtype=torch.float64, requires_grad=True)
    with SavedBytes() as saved:
        _alive = x.square(), y.square()
    assert saved.total == 40 + 80


def test_excluded_tensors_and_their_views_do_not_count():
    x, w = torch.ones(10, requires_grad=True), torch.ones(10, requires_grad=True)
    with SavedBytes(without=[w]) as saved:
        _alive = x * w[:]
    assert saved.total == 40


def test_nothing_counts_after_the_context_ends():
    x = torch.ones(10, requires_grad=True)
    with SavedBytes() as saved:
        pass
    _alive = x.square()
    assert saved.total == 0


def test_the_clock_goes_forward():
    assert now(torch.device("cpu")) <= now(torch.device("cpu"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_clock_waits_for_the_gpu():
    device = torch.device("cuda")
    a = torch.ones(4096, 4096, device=device)
    torch.mm(a, a)
    began = now(device)
    for _ in range(20):
        torch.mm(a, a)
    queued = torch.cuda.Event()
    queued.record()
    passed = now(device) - began
    assert queued.query()
    assert passed > 0
