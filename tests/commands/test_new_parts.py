"""`normbench new norm|model`: files that work as they are."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from normbench import cli, norms
from normbench.data.shape import Shape

Capture = pytest.CaptureFixture[str]


class Registered(ModuleType):
    """Stands for `normbench.plugins`: notes what a file registers."""

    def __init__(self) -> None:
        super().__init__("normbench.plugins")
        self.made: dict[str, tuple[Any, dict[str, Any]]] = {}

    def norm(self, key: str, **facts: Any) -> Callable[[Any], Any]:
        return lambda made: self.made.update({key: (made, facts)}) or setattr(made, "key", key) or made

    model = norm


@pytest.fixture
def written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str], tuple[Any, dict[str, Any]]]:
    """Writes a part with the verb, imports the file, and returns what it registers."""
    monkeypatch.chdir(tmp_path)
    plugins = Registered()
    monkeypatch.setitem(sys.modules, "normbench.plugins", plugins)
    monkeypatch.setattr("normbench.plugins", plugins, raising=False)

    def write(kind: str, name: str) -> tuple[Any, dict[str, Any]]:
        assert cli.run(["new", kind, name]) == 0
        spec = importlib.util.spec_from_file_location(name, tmp_path / f"{name}.py")
        assert spec is not None and spec.loader is not None
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
        return plugins.made[name]

    return write


def test_the_norm_computes_its_equation_in_every_lane(written) -> None:
    kind, facts = written("norm", "my_norm")
    assert kind.__name__ == "MyNormNorm" and facts["reduces"] == "C, H, W"
    layer = kind(4, 3, eps=[1e-5, 0.1, 1.0], power=1.5).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 12, 5, 5, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    for lane, eps in enumerate([1e-5, 0.1, 1.0]):
        own = slice(4 * lane, 4 * lane + 4)
        mean = x[:, own].abs().pow(1.5).mean((1, 2, 3), keepdim=True)
        gamma, beta = (p[own].view(1, 4, 1, 1) for p in (layer.weight, layer.bias))
        torch.testing.assert_close(y[:, own], gamma * x[:, own] / (mean + eps).pow(1 / 1.5) + beta)
    y.square().sum().backward()
    assert bool(x.grad.isfinite().all())
    assert layer(torch.randn(2, 12)).shape == (2, 12)
    with pytest.raises(norms.NormError, match="power must be"):
        kind(4, power=0.5)
    with pytest.raises(norms.NormError, match="leave this layer out"):
        kind(1)(torch.randn(2, 1))


def test_the_model_maps_images_to_logits_and_has_places_for_norms(written) -> None:
    build, facts = written("model", "my_net")
    assert facts == {"size": None}
    network = build(Shape(3, 32, 7, 10, 10))
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 7)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules()) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["norm", "Mine"], "has lower-case letters, digits and _"),
        (["norm", "../x"], "has lower-case letters, digits and _"),
        (["model", "class"], "use my_model"),
        (["norm", "gn"], "norm=gn exists already"),
        (["model", "lenet5"], "model=lenet5 exists already"),
        (["norm", "torch"], "torch.py would hide the package torch"),
        (["nrom", "x"], "unknown kind of file 'nrom'; nearest: norm"),
    ],
)
def test_names_that_cannot_be_are_refused(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["new", *words]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_file_is_never_overwritten(written, capsys: Capture) -> None:
    written("norm", "my_norm")
    assert cli.run(["new", "norm", "my_norm"]) == 2
    assert "my_norm.py exists already" in capsys.readouterr().err
