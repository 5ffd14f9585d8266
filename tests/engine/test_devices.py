"""`engine.devices`: which GPUs of a machine train side by side. The machines are pretended."""

from __future__ import annotations

import pytest

from normbench.autotune.cores import process_count
from normbench.engine import devices
from normbench.errors import InputError


@pytest.fixture
def machine(monkeypatch, make_spec):
    """A function: on a machine with so many GPUs, the GPUs that the words ask for."""

    def asked(count, *words, visible=None):
        monkeypatch.setattr(devices, "cuda_count", lambda: count)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        return devices.side_by_side(make_spec("model=mlp", *words).engine)

    return asked


def test_one_device_trains_unless_several_are_asked_for(machine):
    assert machine(8) == ()
    assert machine(8, "engine.devices=all") == tuple("01234567")
    assert machine(8, "engine.devices=[2,0]") == ("2", "0")
    assert machine(1, "engine.devices=all") == ("0",)


def test_all_devices_of_a_machine_without_a_gpu_are_its_cores(machine):
    assert machine(0, "engine.devices=all") == ()
    assert machine(8, "engine.devices=all", "engine.device=cpu") == ()


def test_the_gpus_are_those_that_the_process_may_see(machine):
    assert machine(3, "engine.devices=[0,2]", visible="4,GPU-8f2a,7") == ("4", "7")
    assert machine(2, "engine.devices=all", visible="GPU-8f2a, MIG-77") == ("GPU-8f2a", "MIG-77")


@pytest.mark.parametrize(
    ("count", "words", "message"),
    [
        (2, ["engine.devices=[0,2]"], r"devices=\[0,2\] is not here: the GPUs of this machine are 0 to 1"),
        (0, ["engine.devices=[0]"], "the GPUs of this machine are none"),
        (2, ["engine.devices=[1,1]"], "must name each GPU once"),
        (2, ["engine.devices=all", "engine.device=cuda:1"], "so engine.device must be auto or cuda"),
        (2, ["engine.devices=[0]", "engine.device=cpu"], "so engine.device must be auto or cuda; got cpu"),
    ],
)
def test_devices_that_cannot_be_are_refused(machine, count, words, message):
    with pytest.raises(InputError, match=message):
        machine(count, *words)


@pytest.mark.parametrize("words", ["engine.devices=[]", "engine.devices=two", "engine.devices=[-1]"])
def test_values_that_are_no_devices_are_refused(machine, words):
    with pytest.raises(InputError, match=r"engine\.devices"):
        machine(2, words)


def test_a_sweep_has_a_process_per_gpu_and_the_choice_leaves_the_signature(monkeypatch, make_spec):
    monkeypatch.setattr(devices, "cuda_count", lambda: 8)
    every, one = make_spec("engine.devices=all"), make_spec()
    assert process_count(every.engine) == 8
    assert every.signature == one.signature
