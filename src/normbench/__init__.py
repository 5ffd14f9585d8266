"""Normalization ablations: stacked training, plans, and tables with error bars.

normbench.sweep("norm=bn,gn seed=range(3)")   train what is missing; the runs as a value
normbench.runs(where="model=lenet5")          the runs that are there
normbench.load("3f2a9c")                      a trained network as an ordinary module
normbench.norms                               the norms as a library
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from normbench.api import Runs, ShownTable, load, runs, sweep
    from normbench.errors import InputError, NormbenchError, RunFailure

#: Name → the module that has it, imported when the name is first used. PERF: import takes milliseconds.
_LAZY = {
    **dict.fromkeys(("Runs", "ShownTable", "load", "runs", "sweep"), "normbench.api"),
    **dict.fromkeys(("InputError", "NormbenchError", "RunFailure"), "normbench.errors"),
}

__all__ = [
    "InputError",
    "NormbenchError",
    "RunFailure",
    "Runs",
    "ShownTable",
    "__version__",
    "load",
    "runs",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'normbench' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
