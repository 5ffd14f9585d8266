"""Under torchrun, every rank loads the plugins that rank 0 has loaded, in the same version."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from normbench import parts
from normbench.errors import InputError
from normbench.parts import Plugin
from normbench.plugins import loading
from normbench.ranks import Ranks
from normbench.sweeps import together
from normbench.sweeps.meeting import END, TRAIN

from .conftest import NORM


class Order:
    """Stands for a `Meeting` at which rank 0 asks for one training."""

    def __init__(self, job) -> None:
        self.job, self.orders = job, [TRAIN, END]

    def next_order(self) -> str:
        return self.orders.pop(0)

    def exchange_job(self, job=None):
        return self.job

    def explain(self, error: Exception) -> Exception:
        return error

    def leave(self) -> None:
        """Does nothing: nobody waits."""


@pytest.fixture
def follow(monkeypatch, tmp_path):
    """Let a rank that has loaded no plugin follow a rank 0 that has some; returns the norms it trained."""

    def follow(plugins, spec) -> list[str]:
        trained: list[str] = []

        def train(specs, *rest):
            trained.extend(each.norm.name for each in specs if parts.find("norm", each.norm.name))

        loaded = SimpleNamespace(of=lambda spec: SimpleNamespace(to=lambda device: None))
        monkeypatch.setattr(together, "train_stack", train)
        monkeypatch.setattr(together, "SweepData", lambda folder: loaded)
        job = (plugins, [spec], None, None, tmp_path)
        monkeypatch.setattr(together, "_meeting", lambda ranks: Order(job))
        monkeypatch.setattr(together.signal, "signal", lambda number, handler: handler)
        assert together.follow(Ranks(1, 2)) == 0
        return trained

    return follow


def test_a_rank_loads_the_plugins_of_rank_0_before_it_trains(plug, make_spec, follow):
    plug(NORM)
    spec, plugins = make_spec("norm=mine", "engine.device=cpu"), loading.loaded()
    loading.unload()
    assert follow(plugins, spec) == ["mine"]


def test_a_rank_refuses_another_version_of_a_plugin(plug, make_spec, follow):
    plug(NORM)
    spec, (plugin,) = make_spec("norm=mine", "engine.device=cpu"), loading.loaded()
    loading.unload()
    with pytest.raises(InputError, match=r"my_part.py must not change"):
        follow([Plugin(plugin.name, plugin.version, "0" * 16, plugin.target)], spec)
