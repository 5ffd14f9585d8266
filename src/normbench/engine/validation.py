"""Metrics of the test split and, if the run has one, of the validation split."""

from __future__ import annotations

from collections.abc import Sequence

from normbench.conditions import Condition
from normbench.data.dataset import Dataset
from normbench.engine.evaluate import evaluate
from normbench.engine.tally import Measured
from normbench.models import Network
from normbench.spec import RunSpec


def evaluate_splits(
    network: Network,
    dataset: Dataset,
    spec: RunSpec,
    conditions: Sequence[Condition] = (Condition(),),
    banks: int = 1,
    metrics: Sequence[str] = (),
) -> list[list[Measured]]:
    """The metrics of `evaluate`, and the same of the validation images, named valid_… instead of test_….

    Everything that `evaluate` takes from test images is taken from validation images there: `@batch` and
    `@adapt` use their statistics.
    """
    tests = evaluate(network, dataset, spec, conditions, banks, metrics)
    if not len(dataset.valid_labels):
        return tests
    validations = validate(network, dataset, spec, conditions, banks, metrics)
    return [
        [test | valid for test, valid in zip(*bank, strict=True)]
        for bank in zip(tests, validations, strict=True)
    ]


def validate(
    network: Network,
    dataset: Dataset,
    spec: RunSpec,
    conditions: Sequence[Condition] = (Condition(),),
    banks: int = 1,
    metrics: Sequence[str] = (),
) -> list[list[Measured]]:
    """The metrics of the validation images alone, for each bank and lane."""
    measured = evaluate(network, dataset.validation, spec, conditions, banks, metrics)
    return [
        [{name.replace("test_", "valid_", 1): value for name, value in lane.items()} for lane in bank]
        for bank in measured
    ]
