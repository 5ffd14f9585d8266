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
    Cost:   a pass over the test images for each of the two that was not evaluated at this point.
    """

    per_bank = True

    def read(self, point: Point, bank: int) -> Reading:
        tests = self._tests(point, bank)
        return Reading(
            {name: [_difference(lane, f"test_{name}") for lane in tests] for name in ("error", "loss")}
        )

    def _tests(self, point: Point, bank: int) -> list[Metrics]:
        banks = point.assignment.banks
        known = point.tests or [[{}] * point.lanes] * banks
        lacking = [
            condition
            for condition in (Condition(), Condition(Source("batch")))
            if any(f"test_error{condition.suffix}" not in lane for lanes in known for lane in lanes)
        ]
        if lacking:
            found = evaluate(point.network, point.dataset, point.spec, lacking, banks)
            point.tests = [
                [old | numbers(new) for old, new in zip(*lanes, strict=True)]
                for lanes in zip(known, found, strict=True)
            ]
        return list(point.tests[bank])


def _difference(metrics: Metrics, name: str) -> float | None:
    running, batch = metrics[name], metrics[f"{name}@batch"]
    return None if running is None or batch is None else running - batch
