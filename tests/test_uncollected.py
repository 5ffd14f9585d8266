"""The pause of the garbage collector."""

from __future__ import annotations

import gc

import pytest

from normbench.uncollected import uncollected


def test_the_collector_pauses_and_goes_on_also_after_an_error():
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), uncollected():
        raise ImportError
    assert gc.isenabled()


def test_a_pause_within_a_pause_does_not_end_it():
    with uncollected():
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
