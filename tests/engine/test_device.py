"""Engine settings that this machine does not support are refused before anything is written."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import ClassVar

import pytest
import torch

from normbench.autotune import measurement
from normbench.bench import processes
from normbench.engine import device, evaluate_again, train
from normbench.engine.device import check, numerics
from normbench.errors import InputError
from normbench.ranks import Ranks

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["engine.precision=tf32"], "engine.precision=tf32 needs a CUDA device"),
        (["engine.precision=fp16"], "engine.precision=fp16 needs a CUDA device"),
        (["engine.compile=true"], r"needs a C\+\+ compiler, and there is no nowhere/cxx"),
    ],
)
def test_settings_that_a_cpu_does_not_support_are_refused(make_spec, monkeypatch, words, said):
    monkeypatch.setenv("CXX", "nowhere/cxx")
    with pytest.raises(InputError, match=said):
        check(make_spec("engine.device=cpu", *words).engine)


def test_a_cpu_does_not_replay_compiled_steps(make_spec):
    with pytest.raises(InputError, match=r"engine\.graphs=true and engine\.compile=true exclude each other"):
        check(make_spec("engine.device=cpu", "engine.graphs=true", "engine.compile=true").engine)


@pytest.mark.parametrize(
    "word",
    ["engine.precision=bf16", "engine.precision=fp64", "engine.graphs=false", "engine.graphs=true"],
)
def test_settings_that_a_cpu_supports_are_accepted(make_spec, monkeypatch, word):
    monkeypatch.setenv("CXX", "nowhere/cxx")  # only engine.compile needs a compiler
    check(make_spec("engine.device=cpu", word).engine)


def test_every_rank_has_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device.find_device("auto") == torch.device("cuda")
    monkeypatch.setattr(device, "launched", lambda: Ranks(3, 4, 1, 2))
    assert device.find_device("auto") == device.find_device("cuda") == torch.device("cuda:1")
    assert device.find_device("cpu") == CPU
    with pytest.raises(
        InputError, match=r"2 ranks on this machine need a GPU each; got engine\.device=cuda:1"
    ):
        device.find_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match=r"--nproc-per-node=1, or engine\.device=cpu"):
        device.find_device("auto")


@pytest.mark.parametrize(
    ("hidden", "said"),
    [
        ("triton", "needs Triton, and there is none"),
        ("gcc", "needs a C compiler, and there is no nowhere/cc"),
    ],
)
def test_compiling_on_a_gpu_needs_triton_and_a_c_compiler(make_spec, monkeypatch, hidden, said):
    monkeypatch.setattr(device, "find_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(device.importlib.util, "find_spec", lambda name: None if name == hidden else name)
    monkeypatch.setenv("CC", "nowhere/cc")
    with pytest.raises(InputError, match=said):
        check(make_spec("engine.device=cpu", "engine.compile=true").engine)
    monkeypatch.setattr(device.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setenv("CC", sys.executable)
    check(make_spec("engine.device=cpu", "engine.compile=true").engine)


def test_a_device_that_is_neither_a_cpu_nor_a_gpu_is_refused_by_its_name():
    with pytest.raises(InputError, match=r"engine\.device=mps is not supported; use auto, cpu, cuda"):
        device.find_device("mps")


def tf32() -> tuple[object, object]:
    """TF32 in products and in convolutions, as the interface of this torch says."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(matmul, "fp32_precision"):
        return matmul.fp32_precision == "tf32", cudnn.conv.fp32_precision == "tf32"
    return matmul.allow_tf32, cudnn.allow_tf32


@pytest.mark.parametrize(("precision", "allowed"), [("tf32", True), ("fp32", False), ("bf16", False)])
def test_tf32_is_on_only_for_precision_tf32_and_only_during_the_run(make_spec, precision, allowed):
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with numerics(make_spec(f"engine.precision={precision}").engine, CPU):
        assert tf32() == (allowed, allowed)
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="torch before 2.9")
def test_a_program_that_uses_the_other_interface_of_tf32_can_train(make_spec):
    code = (
        "import torch, types\nb = torch.backends\n"
        "b.cuda.matmul.fp32_precision = b.cudnn.conv.fp32_precision = 'tf32'\n"
        "from normbench.engine.device import numerics\n"
        "engine = types.SimpleNamespace(precision='fp32', deterministic=False)\n"
        "with numerics(engine, torch.device('cpu')): print('in')\n"
        "print(torch.backends.cuda.matmul.fp32_precision)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert said.stdout.split() == ["in", "tf32"], said.stderr


def test_cublas_gets_its_workspace_before_the_first_product():
    code = "import normbench.engine.device, os; print(os.environ['CUBLAS_WORKSPACE_CONFIG'])"
    clean = {name: value for name, value in os.environ.items() if name != "CUBLAS_WORKSPACE_CONFIG"}
    said = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == ":4096:8"


class Entered:
    """A stand-in for torch.cuda.device that notes which devices are entered now."""

    now: ClassVar[list[str]] = []

    def __init__(self, device: torch.device) -> None:
        self.name = str(device)

    def __enter__(self) -> None:
        self.now.append(self.name)

    def __exit__(self, *error: object) -> None:
        self.now.pop()


def test_the_device_of_a_run_is_the_current_one_and_only_during_the_run(make_spec, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device", Entered)
    with numerics(make_spec().engine, torch.device("cuda:1")):
        assert Entered.now == ["cuda:1"]
    assert Entered.now == []


@pytest.mark.parametrize("of", ["training", "trial", "bench", "evaluation"])
def test_training_trials_bench_and_evaluation_enter_their_device(make_spec, monkeypatch, of):
    """A CUDA graph is captured on the current device; on another one it would be empty."""
    entered: list[torch.device] = []

    class Stop(Exception):
        pass

    def stand_in(engine, device):
        entered.append(device)
        raise Stop

    spec, second = make_spec(), torch.device("cuda:1")
    for module in (train, evaluate_again, measurement, processes):
        monkeypatch.setattr(module, "numerics", stand_in)
    monkeypatch.setattr(measurement, "find_device", lambda name: second)
    contestant = processes.Contestant("stack of 1", "stack", (spec,))
    with pytest.raises(Stop):
        {
            "training": lambda: train.train_stack([spec], None, second),
            "evaluation": lambda: evaluate_again.evaluate_again([spec], [], None, second, ()),
            "trial": lambda: measurement.step_time(spec, None, 1, None),
            "bench": lambda: processes.Rig(second).enter(contestant, 1.0, 1.0),
        }[of]()
    assert entered == [second]
