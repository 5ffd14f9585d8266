"""What the server of wandb has of our runs. The server is asked, because it alone knows."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from time import sleep
from typing import Any

PAGE = 50  # runs per request; wandb's own default
WAITS_S = (0.0, 1.0, 2.0)  # s before each question after sending; the server may need a moment


@dataclass(frozen=True)
class Expected:
    """What the server must show of a run: the numbers of its summary, and lines of its history."""

    summary: Mapping[str, Any]
    lines: int


def absent(
    wandb: Any, project: str | None, entity: str | None, expected: Mapping[str, Expected]
) -> list[str]:
    """The ids of the runs that the server lacks or has incompletely, in the given order.

    A run is complete if the server has as many lines of history as we have, and every number of our summary.

    Raises:
        Exception: the server does not answer, or refuses the key.
    """
    if not expected:
        return []
    api = wandb.Api(timeout=10)
    path = f"{entity or api.default_entity}/{project}"
    eager = {"lazy": False} if "lazy" in inspect.signature(api.runs).parameters else {}
    names = list(expected)
    there: set[str] = set()
    for start in range(0, len(names), PAGE):
        some = names[start : start + PAGE]
        try:
            for run in api.runs(path, filters={"name": {"$in": some}}, per_page=PAGE, **eager):
                want = expected.get(run.id)
                if want and _has(run.summary_metrics, getattr(run, "historyLineCount", None), want):
                    there.add(run.id)
        except ValueError as error:
            if "Could not find project" not in str(error):
                raise
            break
    return [name for name in names if name not in there]


def still_absent(
    wandb: Any, project: str | None, entity: str | None, expected: Mapping[str, Expected]
) -> list[str]:
    """As `absent`, after runs were sent: asks again if the server does not show them at once."""
    lacking = list(expected)
    for wait_s in WAITS_S:
        sleep(wait_s)
        lacking = absent(wandb, project, entity, {name: expected[name] for name in lacking})
        if not lacking:
            break
    return lacking


def _has(summary: Mapping[str, Any], lines: int | None, want: Expected) -> bool:
    if lines is not None and lines < want.lines:
        return False
    return all(_equal(summary.get(key), value) for key, value in want.summary.items())


def _equal(found: Any, wanted: Any) -> bool:
    """Whether two values are equal; numbers may differ in their last digits, because they travel as text."""
    if isinstance(found, int | float) and isinstance(wanted, int | float):
        return math.isclose(found, wanted, rel_tol=1e-9)
    return bool(found == wanted)
