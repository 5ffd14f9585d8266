"""A wandb agent's trial: the agent started this command and expects the results in one run of its own.

Under an agent wandb ignores ids and projects: every run it opens is the agent's run. So the runs of this
command become one run before wandb sees them. It has their common fields and the means of their numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from normbench.events import Event, RunEnded, RunEvaluated, RunFound, StackLogged, StackStarted, SweepStarted
from normbench.labels import varying
from normbench.record import COMPLETE, DIVERGED, FAILED, Record

Numbers = Mapping[str, float | None]


class Trial:
    """Turns the events of all runs into the events of one run.

    A number of the trial is the mean over all its runs, or missing: if one run has no such number, or if the
    runs differ in more than the seed.

    Args:
        run_id: the id of the agent's run.
        notice: called with one line for the user.
    """

    def __init__(self, run_id: str, notice: Callable[[str], None]) -> None:
        self._id, self._notice = run_id, notice
        self._runs: int | None = None  # asked for; None until the sweep says so
        self._specs: dict[str, dict[str, Any]] = {}  # run → its specification
        self._records: dict[str, Record] = {}
        self._waiting: dict[int, dict[str, Numbers]] = {}  # step → run → point
        self._logged = -1  # the last step that was logged
        self._steps = self._first_step = 0
        self._differ: list[str] | None = None  # fields in which the runs differ; None until all are known

    def translate(self, event: Event) -> list[Event]:
        """The events of the trial that follow from an event of its runs."""
        match event:
            case SweepStarted():
                self._runs = event.runs
            case StackStarted():
                self._specs.update(zip(event.signatures, event.specs, strict=True))
                self._steps, self._first_step = event.steps, event.first_step
            case StackLogged():
                for signature, point in zip(event.signatures, event.points, strict=True):
                    self._waiting.setdefault(event.step, {})[signature] = point
            case RunFound(record=record) | RunEvaluated(record=record):
                self._specs[record.signature] = record.spec
                self._records[record.signature] = record
                for point in record.history:
                    self._waiting.setdefault(int(point["step"] or 0), {})[record.signature] = point
            case RunEnded(record=record):
                self._records[record.signature] = record
        return self._ready() if self._runs is not None else []

    def close(self) -> list[Event]:
        """The events that are left. The trial ends only if all its runs have ended."""
        if self._runs is None:
            self._runs = len(self._specs)
        news = self._ready()
        if self._differ is not None and len(self._records) == len(self._specs):
            news.append(RunEnded(self._record()))
        return news

    def _ready(self) -> list[Event]:
        """The start of the trial and its next points, once all runs are known."""
        if not self._specs or len(self._specs) < (self._runs or 0):
            return []
        news = [self._start()] if self._differ is None else []
        for step in sorted(self._waiting):
            if len(points := self._waiting[step]) == len(self._specs):
                del self._waiting[step]
                if step > self._logged and (mean := self._mean(list(points.values()))):
                    news.append(StackLogged((self._id,), step, (mean,)))
                    self._logged = step
        return news

    def _start(self) -> Event:
        specs = list(self._specs.values())
        self._differ = varying(specs)
        if self._differ:
            self._notice(
                f"a wandb agent started this command for one result, but its {len(specs)} runs differ in "
                f"{', '.join(self._differ)}: the agent's run {self._id} gets no metrics. "
                "Let the agent choose these values, or track every run: "
                "env -u WANDB_SWEEP_ID -u WANDB_RUN_ID normbench train …"
            )
        elif len(specs) > 1:
            self._notice(
                f"a wandb agent started this command: its run {self._id} gets the means over {len(specs)} "
                "seeds; the local records hold the single runs"
            )
        first_step = self._first_step if len(specs) == 1 else 0  # > 0 if the run resumes
        return StackStarted((self._id,), (_common(specs) | _count(specs),), ("",), self._steps, first_step)

    def _record(self) -> Record:
        records = list(self._records.values())
        statuses = {record.status for record in records}
        return Record(
            signature=self._id,
            spec={},
            status=next(status for status in (FAILED, DIVERGED, COMPLETE) if status in statuses),
            metrics=self._mean([record.metrics for record in records]),
            timing={k: v for k, v in self._mean([r.timing for r in records]).items() if v is not None},
            environment={},
            provenance={},
        )

    def _mean(self, numbers: Sequence[Numbers]) -> dict[str, float | None]:
        """Means of the numbers that all runs have; nothing if the runs differ in more than the seed."""
        if self._differ:
            return {}
        shared = set.intersection(*({k for k, v in one.items() if v is not None} for one in numbers))
        return {key: _mean_of([one[key] for one in numbers]) for key in numbers[0] if key in shared}


def _mean_of(values: Sequence[Any]) -> float:
    """The mean; equal values are kept as they are."""
    return values[0] if len(set(values)) == 1 else fmean(values)


def _common(trees: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The fields that are equal in all trees. A group is left out if its choices differ."""
    found: dict[str, Any] = {}
    for key, value in trees[0].items():
        others = [tree.get(key) for tree in trees]
        groups = [other for other in others if isinstance(other, Mapping)]
        if len(groups) < len(others):
            if all(other == value for other in others):
                found[key] = value
        elif len({group.get("name") for group in groups}) == 1:
            found[key] = _common(groups)
    return found


def _count(specs: Sequence[Any]) -> dict[str, int]:
    return {"runs": len(specs)} if len(specs) > 1 else {}
