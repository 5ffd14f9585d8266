"""An attempt: a failure is a value that keeps nothing of the failed stack alive."""

from __future__ import annotations

import weakref

import pytest
import torch

from normbench.errors import RunFailure
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


def test_a_run_failure_is_raised():
    def work():
        raise RunFailure("the disk is full")

    with pytest.raises(RunFailure, match="the disk is full"):
        attempt(work)
