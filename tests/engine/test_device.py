"""Engine settings that this machine does not support are refused before anything is written."""

from __future__ import annotations

import pytest
import torch

from normbench.engine.device import check, numerics
from normbench.errors import InputError


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["engine.precision=tf32"], "engine.precision=tf32 needs a CUDA device"),
        (["engine.precision=fp16"], "engine.precision=fp16 needs a CUDA device"),
        (["engine.graphs=true"], "engine.graphs=true needs a CUDA device"),
        (["engine.compile=true"], r"needs a C\+\+ compiler, and there is no nowhere/cxx"),
    ],
)
def test_settings_that_a_cpu_does_not_support_are_refused(make_spec, monkeypatch, words, said):
    monkeypatch.setenv("CXX", "nowhere/cxx")
    with pytest.raises(InputError, match=said):
        check(make_spec("engine.device=cpu", *words).engine)


@pytest.mark.parametrize("word", ["engine.precision=bf16", "engine.precision=fp64", "engine.graphs=false"])
def test_settings_that_a_cpu_supports_are_accepted(make_spec, monkeypatch, word):
    monkeypatch.setenv("CXX", "nowhere/cxx")  # only engine.compile needs a compiler
    check(make_spec("engine.device=cpu", word).engine)


@pytest.mark.parametrize(("precision", "allowed"), [("tf32", True), ("fp32", False), ("bf16", False)])
def test_tf32_is_on_only_for_precision_tf32_and_only_during_the_run(make_spec, precision, allowed):
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with numerics(make_spec(f"engine.precision={precision}").engine):
        assert torch.backends.cuda.matmul.allow_tf32 is allowed
        assert torch.backends.cudnn.allow_tf32 is allowed
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before
