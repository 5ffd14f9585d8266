"""An attempt: a failure is a value that keeps nothing of the failed stack alive."""

from __future__ import annotations

import weakref

import pytest
import torch

from normbench.errors import RunFailure, StoreFailure
from normbench.sweeps import attempt as module
from normbench.sweeps.attempt import attempt


def test_the_tensors_of_a_failed_stack_are_gone_before_the_cache_is_emptied(monkeypatch):
    alive, at_collection = [], []

    def work():
        tensor = torch.zeros(3)
        alive.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("out of memory\nset MORE_WORDS=1")

    monkeypatch.setattr(module.gc, "collect", lambda: at_collection.append(alive[0]()))
    failure = attempt(work)
    assert failure is not None
    assert failure.reason == "OutOfMemoryError: out of memory"
    assert "MORE_WORDS=1" in failure.text
    assert at_collection == [None]


def test_work_that_succeeds_has_no_failure():
    assert attempt(lambda: None) is None


def test_a_store_that_takes_nothing_more_is_no_failure_of_the_stack():
    def work():
        raise StoreFailure("the disk is full")

    with pytest.raises(StoreFailure, match="the disk is full"):
        attempt(work)


def test_an_error_on_purpose_is_a_certain_failure():
    def work():
        raise RunFailure("no memory for one lane")

    failure = attempt(work)
    assert failure is not None
    assert failure.certain
    assert failure.reason.endswith("no memory for one lane")
