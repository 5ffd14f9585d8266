"""Unfinished runs: how far a run with a checkpoint is, readable without torch and while it trains.

`checkpoint.json` lies beside `checkpoint.pt` and is written after it. It holds the step, the length of the
run and the curve so far. It informs people; training goes on from `checkpoint.pt` alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from normbench.record import Metrics, curve_point

NAME = "checkpoint.json"


class Unfinished(NamedTuple):
    """A run that has a checkpoint.

    Attributes:
        step:  finished steps; None if the note beside the checkpoint cannot be read.
        steps: length of the run; None likewise.
        curve: the points of the curve so far.
    """

    step: int | None
    steps: int | None
    curve: tuple[Metrics, ...] = ()


def note(step: int, steps: int, curve: Sequence[Metrics]) -> str:
    """The content of the note."""
    return json.dumps({"step": step, "steps": steps, "curve": list(curve)})


def read(folder: Path) -> Unfinished | None:
    """How far the run of a folder is; None if it has no checkpoint."""
    if not (folder / "checkpoint.pt").is_file():
        return None
    try:
        tree = json.loads((folder / NAME).read_text(encoding="utf-8"))
        return Unfinished(int(tree["step"]), int(tree["steps"]), tuple(map(curve_point, tree["curve"])))
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return Unfinished(None, None)
