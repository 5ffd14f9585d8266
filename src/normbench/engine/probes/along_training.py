"""Diagnostics while a stack trains: the training loop calls `read` at the points of its curve."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from normbench.data.dataset import Dataset
from normbench.engine.evaluate import Metrics
from normbench.engine.initial_state import initial_network
from normbench.engine.probes.diagnosis import Diagnosis, Row
from normbench.engine.probes.protocol import Point
from normbench.engine.stack import Stack
from normbench.engine.state import LaneState
from normbench.spec import RunSpec


class Along:
    """The diagnostics of a stack that trains.

    Args:
        stack:       it trains.
        dataset:     its data.
        evaluations: numbers of finished steps at which it is evaluated.
        histories:   the curves of its runs; `read` adds scalars to their last points.
        resume:      the states that the runs go on from, if they do.

    Attributes:
        rows: for every run what was found by layer, see `diagnosis.Row`.
    """

    def __init__(
        self,
        stack: Stack,
        dataset: Dataset,
        evaluations: set[int],
        histories: Sequence[list[Metrics]],
        resume: Sequence[LaneState] | None,
    ) -> None:
        self._stack, self._dataset, self._histories = stack, dataset, histories
        self._diagnosis = Diagnosis(stack.spec.diagnostics, stack.steps, evaluations)
        self.steps = self._diagnosis.steps
        self.rows: list[list[Row]] = [
            list(state.get("diagnostics", {}).get("rows", ())) for state in resume or [{} for _ in histories]
        ]
        self.summary = self._diagnosis.summary

    def read(self, done: int, tests: Sequence[Sequence[Metrics]]) -> None:
        """Read what is due after so many steps.

        Args:
            done:  number of finished steps.
            tests: bank → lane → test metrics at this step; empty if there are none.
        """
        if done not in self.steps:
            return
        stack = self._stack
        curves = dict(zip(stack.assignment.of, self._histories, strict=True))
        point = Point(
            spec=stack.spec, network=stack.network, assignment=stack.assignment, dataset=self._dataset,
            step=done, steps=stack.steps, lr=[curves[k, 0][-1]["lr"] or 0.0 for k in range(stack.lanes)],
            curves=curves, initial=partial(initial_network, stack.assignment.lanes, self._dataset),
            batches=stack.batches, tests=tests,
        )  # fmt: skip
        for history, rows, (scalars, found) in zip(
            self._histories, self.rows, self._diagnosis.read(point), strict=True
        ):
            history[-1] |= scalars
            rows += found

    def state(self) -> list[dict[str, Any]]:
        """What a checkpoint needs, per run, besides the curve."""
        asked = asked_of(self._stack.spec)
        return [{"asked": asked, "rows": list(rows)} for rows in self.rows]


def asked_of(spec: RunSpec) -> list[Any]:
    """What decides at which steps the diagnostics of a run are read."""
    return [*spec.diagnostics, spec.eval.every] if spec.diagnostics else []
