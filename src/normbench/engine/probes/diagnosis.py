"""Diagnostics along a run: when they are read, what the curve gets, and what becomes of a metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from normbench.diagnostics import Diagnostic, parse_all
from normbench.engine.evaluate import Metrics, finite
from normbench.engine.probes.gradients import preserved
from normbench.engine.probes.images import collect
from normbench.engine.probes.protocol import ActivationProbe, ByLayer, Point, Reading
from normbench.engine.probes.registry import probe_of

#: Readings of a diagnostic that needs the training itself, unless a cadence is given: at every second of the
#: curve's 50 points.
READINGS = 25

#: A line of diagnostics.jsonl: {"step": …, "name": "probe/quantity", "layers": {layer: value}}.
Row = dict[str, Any]


class Diagnosis:
    """The diagnostics of a stack.

    Args:
        asked:       as in `RunSpec.diagnostics`.
        steps:       length of the runs.
        evaluations: numbers of finished steps at which the runs are evaluated.
    """

    def __init__(self, asked: Sequence[str], steps: int, evaluations: set[int]) -> None:
        self.due = {each: due_steps(each, steps, evaluations) for each in parse_all(asked)}
        self.probes = {each: probe_of(each) for each in self.due}

    @property
    def steps(self) -> set[int]:
        """Numbers of finished steps at which anything is read."""
        return set().union(*self.due.values())

    def read(self, point: Point) -> list[tuple[Metrics, list[Row]]]:
        """Read what is due at a point: for every run its scalars, and its rows for diagnostics.jsonl."""
        due = [each for each, steps in self.due.items() if point.step in steps]
        return read(point, {each: self.probes[each] for each in due})

    def summary(self, history: Sequence[Metrics], *, diverged: bool) -> Metrics:
        """The metrics of a run: the last reading, or the mean over readings if the probe averages. All are
        None if the run diverged.
        """
        metrics: Metrics = {}
        for each, probe in self.probes.items():
            for name in each.metrics:
                values = [point[name] for point in history if name in point]
                if diverged or not values or (None in values and probe.averages):
                    metrics[name] = None
                else:
                    metrics[name] = finite(np.mean(np.array(values, float))) if probe.averages else values[-1]
        return metrics


def due_steps(asked: Diagnostic, steps: int, evaluations: set[int]) -> set[int]:
    """Numbers of finished steps at which a diagnostic is read.

    >>> sorted(due_steps(Diagnostic("running_error", every=40), 100, {100}))
    [40, 80, 100]
    """
    if asked.every is not None:
        return {*range(asked.every, steps, asked.every), steps}
    if asked.entry.follows_from == "training":
        return {-(-steps * i // READINGS) for i in range(1, READINGS + 1)}
    return set(evaluations)


def read(point: Point, probes: Mapping[Diagnostic, Any]) -> list[tuple[Metrics, list[Row]]]:
    """Read some probes at one point; the network is left as it was.

    Returns:
        For every run, in the order of the assignment, its scalars and its rows.
    """
    found: list[tuple[Metrics, list[Row]]] = [({}, []) for _ in point.assignment.of]
    if not probes:
        return found
    listening = {each: probe for each, probe in probes.items() if isinstance(probe, ActivationProbe)}
    with preserved(point.network):
        activities = dict(zip(listening, collect(point, list(listening.values())), strict=True))
        for each, probe in probes.items():
            point.activity = activities.get(each, {})
            readings = [
                probe.read(point, bank) for bank in range(point.assignment.banks if probe.per_bank else 1)
            ]
            for (lane, bank), (scalars, rows) in zip(point.assignment.of, found, strict=True):
                _enter(each, readings[bank if probe.per_bank else 0], lane, point.step, scalars, rows)
    return found


def _enter(
    asked: Diagnostic, reading: Reading, lane: int, step: int, scalars: Metrics, rows: list[Row]
) -> None:
    for quantity, values in reading.scalars.items():
        value = values[lane]
        scalars[f"{asked.label}/{quantity}"] = None if value is None else finite(value)
    for quantity, by_lane in reading.layers.items():
        if by_lane and by_lane[lane]:
            rows.append(
                {"step": step, "name": f"{asked.label}/{quantity}", "layers": _finite_tree(by_lane[lane])}
            )


def _finite_tree(value: ByLayer | Any) -> Any:
    """The same containers with None for numbers that are not finite."""
    if isinstance(value, dict):
        return {key: _finite_tree(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite_tree(part) for part in value]
    return finite(value) if isinstance(value, float) else value
