"""What the server of wandb has of our runs. The server is asked, because it alone knows."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import sleep
from typing import Any, NamedTuple

PAGE = 50  # runs per request; wandb's own default
WAITS_S = (0.0, 1.0, 2.0)  # s before each question after sending; the server may need a moment


@dataclass(frozen=True)
class Expected:
    """What the server must show of a run: the numbers of its summary, and lines of its history."""

    summary: Mapping[str, Any]
    lines: int


class Found(NamedTuple):
    """What the server has of some runs.

    Attributes:
        absent: ids of the runs that it lacks or has incompletely, in the given order.
        tags:   id → tags, of the runs that it has, also incompletely.
    """

    absent: list[str]
    tags: dict[str, tuple[str, ...]]


def compare(wandb: Any, project: str | None, entity: str | None, expected: Mapping[str, Expected]) -> Found:
    """Ask what the server has.

    A run is complete if the server has as many lines of history as we have, and every number of our summary.

    Raises:
        Exception: the server does not answer, or refuses the key.
    """
    there: set[str] = set()
    tags: dict[str, tuple[str, ...]] = {}
    for run in _runs(wandb, project, entity, list(expected)):
        if (want := expected.get(run.id)) is not None:
            tags[run.id] = tuple(run.tags or ())
            if _has(run.summary_metrics, getattr(run, "historyLineCount", None), want):
                there.add(run.id)
    return Found([name for name in expected if name not in there], tags)


def set_tags(
    wandb: Any, project: str | None, entity: str | None, tags: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """Replace the tags of runs that the server has; gives the id of each run that is done.

    Raises:
        Exception: the server does not answer, or refuses.
    """
    for run in _runs(wandb, project, entity, list(tags)):
        if run.id in tags:
            run.tags = list(tags[run.id])
            run.update()
            yield run.id


def still_absent(
    wandb: Any, project: str | None, entity: str | None, expected: Mapping[str, Expected]
) -> list[str]:
    """`Found.absent` after runs were sent: asks again if the server does not show them at once."""
    lacking = list(expected)
    for wait_s in WAITS_S:
        sleep(wait_s)
        lacking = compare(wandb, project, entity, {name: expected[name] for name in lacking}).absent
        if not lacking:
            break
    return lacking


def _runs(wandb: Any, project: str | None, entity: str | None, names: Sequence[str]) -> Iterator[Any]:
    """The runs of these ids that the server has, with their configuration and summary."""
    if not names:
        return
    api = wandb.Api(timeout=10)
    path = f"{entity or api.default_entity}/{project}"
    eager = {"lazy": False} if "lazy" in inspect.signature(api.runs).parameters else {}
    for start in range(0, len(names), PAGE):
        some = names[start : start + PAGE]
        try:
            yield from api.runs(path, filters={"name": {"$in": some}}, per_page=PAGE, **eager)
        except ValueError as error:
            if "Could not find project" not in str(error):
                raise
            return


def _has(summary: Mapping[str, Any], lines: int | None, want: Expected) -> bool:
    if lines is not None and lines < want.lines:
        return False
    return all(_equal(summary.get(key), value) for key, value in want.summary.items())


def _equal(found: Any, wanted: Any) -> bool:
    """Whether two values are equal; numbers may differ in their last digits, because they travel as text."""
    if isinstance(found, int | float) and isinstance(wanted, int | float):
        return math.isclose(found, wanted, rel_tol=1e-9)
    return bool(found == wanted)
