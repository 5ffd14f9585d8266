"""Plugins as files in a folder of the test's own; they are unloaded at its end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from normbench import parts, plugins
from normbench.plugins import loading
from normbench.store import Store

NORM = '''
    """A norm with lanes."""
    from normbench import plugins
    from normbench.norms import Norm
    from normbench.norms.lanes import by_lane

    __version__ = "1.2"

    @plugins.norm("mine", reduces="C, H, W", neutral={"args.shift": 0.0})
    class Mine(Norm):
        """Mine: x / (mean square)^alpha over an image."""

        def __init__(self, channels, lanes=1, *, eps=1e-5, affine=True, alpha=0.5, shift=0.0):
            super().__init__(channels, lanes, eps=eps, affine=affine)
            self.alpha, self.shift = self.number("alpha", alpha, least=0), self.number("shift", shift)

        def normalize(self, x):
            square = by_lane(x, self.lanes).square()
            mean = square.mean(tuple(range(2, square.dim())), keepdim=True).expand_as(square)
            gain = (mean.flatten(1, 2) + self.eps_along(x)) ** -self.alpha
            return self.scale_shift((x + self.shift) * gain)
'''
ALONE = '''
    """A norm without lanes: batch norm by hand, which puts new tensors in place of its buffers."""
    import torch
    from normbench import plugins

    @plugins.norm("alone", batch_statistics=True, absorbs_bias=True, eval_differs=True)
    class Alone(torch.nn.Module):
        """Alone: (x - mean) / sd over a batch."""

        def __init__(self, channels, momentum=0.1, eps=1e-5):
            super().__init__()
            self.gamma = torch.nn.Parameter(torch.ones(channels))
            self.register_buffer("mean", torch.zeros(channels))
            self.register_buffer("var", torch.ones(channels))
            self.register_buffer("steps", torch.zeros((), dtype=torch.long))
            self.momentum, self.eps = momentum, eps

        def forward(self, x):
            mean, var = self.mean, self.var
            if self.training:
                dims = (0, *range(2, x.dim()))
                mean, var = x.mean(dims), x.var(dims, unbiased=False)
                with torch.no_grad():
                    self.mean = torch.lerp(self.mean, mean, self.momentum)
                    self.var.lerp_(var, self.momentum)
                    self.steps += 1
            along = (1, -1) + (1,) * (x.dim() - 2)
            gain = self.gamma * (var + self.eps).rsqrt()
            return (x - mean.view(along)) * gain.view(along)
'''


@pytest.fixture(autouse=True)
def unloaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No plugin before and after the test, no entry point, and the path of modules as it was."""
    monkeypatch.setattr(loading, "entry_points", lambda group: ())
    monkeypatch.delenv(loading.VARIABLE, raising=False)
    monkeypatch.setattr(loading, "_named", [])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a changed file must be compiled again
    yield
    loading.unload()
    assert not parts.everything()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a file of a plugin; returns its path."""

    def write(name: str, text: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text), encoding="utf-8")
        return file

    return write


@pytest.fixture
def plug(write: Callable[[str, str], Path]) -> Callable[..., Path]:
    """Write a plugin and load it, also in place of an earlier version."""

    def plug(text: str, name: str = "my_part.py") -> Path:
        file = write(name, text)
        loading.unload()
        plugins.load(str(file))
        return file

    return plug


@pytest.fixture
def store() -> Store:
    return Store.default()
