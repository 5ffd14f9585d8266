"""Difference between evaluation by running and by batch statistics (name: inconsistency)."""

from __future__ import annotations

from normbench.conditions import Condition
from normbench.engine.evaluate import evaluate
from normbench.engine.probes.protocol import Point, Probe, Reading
from normbench.engine.tally import numbers
from normbench.record import Metrics
from normbench.sources import Source


class Inconsistency(Probe):
    """What a run loses on the test images because it is not evaluated as it was trained.

        error = test_error − test_error@batch,  loss = test_loss − test_loss@batch

    The first terms are by running statistics, the second by those of test batches of the size in training.
    0 for norms without running statistics; none if the test split does not fill a batch.

    Source: wu2021, §3.3 (inconsistency of training and test).
    Cost:   two passes over the test images; none at points where the run is evaluated with both.
    """

    per_bank = True

    def read(self, point: Point, bank: int) -> Reading:
        tests = self._tests(point, bank)
        return Reading(
            {name: [_difference(lane, f"test_{name}") for lane in tests] for name in ("error", "loss")}
        )

    def _tests(self, point: Point, bank: int) -> list[Metrics]:
        known = list(point.tests[bank]) if point.tests else []
        if known and all({"test_error", "test_error@batch"} <= lane.keys() for lane in known):
            return known
        banks = point.assignment.banks
        conditions = (Condition(), Condition(Source("batch")))
        found = evaluate(point.network, point.dataset, point.spec, conditions, banks)
        point.tests = [[numbers(lane) for lane in lanes] for lanes in found]
        return list(point.tests[bank])


def _difference(metrics: Metrics, name: str) -> float | None:
    running, batch = metrics[name], metrics[f"{name}@batch"]
    return None if running is None or batch is None else running - batch
