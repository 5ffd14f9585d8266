"""Unfinished runs: how far a run with a checkpoint is, readable without torch and while it trains.

`checkpoint.json` lies beside `checkpoint.pt` and is written after it. It holds step, length, specification
and curve so far. It informs people; training goes on from `checkpoint.pt` alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from normbench.record import Metrics, curve_point

NAME = "checkpoint.json"


class Unfinished(NamedTuple):
    """A run that has a checkpoint.

    Attributes:
        step:  finished steps; None if the note beside the checkpoint cannot be read.
        steps: length of the run; None likewise.
        curve: the points of the curve so far.
        spec:  of the run, as plain containers; empty if the note cannot be read.
    """

    step: int | None
    steps: int | None
    curve: tuple[Metrics, ...] = ()
    spec: Mapping[str, Any] = MappingProxyType({})


def note(step: int, steps: int, curve: Sequence[Metrics], spec: dict[str, Any]) -> str:
    """The content of the note."""
    return json.dumps({"step": step, "steps": steps, "spec": spec, "curve": list(curve)})


def read(folder: Path) -> Unfinished | None:
    """How far the run of a folder is; None if it has no checkpoint."""
    if not (folder / "checkpoint.pt").is_file():
        return None
    try:
        tree = json.loads((folder / NAME).read_text(encoding="utf-8"))
        curve = tuple(map(curve_point, tree["curve"]))
        return Unfinished(int(tree["step"]), int(tree["steps"]), curve, dict(tree["spec"]))
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return Unfinished(None, None)
