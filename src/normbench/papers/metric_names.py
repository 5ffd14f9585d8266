"""Names of metrics that a table may ask for, checked before anything trains."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from normbench.conditions import ALWAYS, NUMBERS
from normbench.corruptions import parse_corruptions
from normbench.diagnostics import parse as parse_diagnostic
from normbench.errors import InputError
from normbench.report.metrics import TIMING
from normbench.sources import parse_source

_SPLITS = ("train", "test", "valid")


def check(name: str) -> str:
    """The name, if a run can have such a metric.

    >>> [check(n) for n in ("test_nll/contrast:3@adapt", "steps_to_0.1", "running_error/mean_mean")]
    ['test_nll/contrast:3@adapt', 'steps_to_0.1', 'running_error/mean_mean']

    Raises:
        ValueError: no run has a metric of this name; the message says what is wrong.
    """
    try:
        if name not in TIMING and not _evaluated(name) and not _steps(name) and not _diagnostic(name):
            raise ValueError(f"no metric is called '{name}'")
    except InputError as error:
        raise ValueError(f"no metric is called '{name}': {error}") from None
    return name


def _evaluated(name: str) -> bool:
    """Whether a name is that of an evaluated number: split, quantity, corruption, source."""
    head, at, source = name.partition("@")
    quantity, slash, corruption = head.partition("/")
    split, _, number = quantity.partition("_")
    if split not in _SPLITS or number not in (*ALWAYS, *NUMBERS):
        return False
    if slash and [str(each) for each in parse_corruptions([corruption])] != [corruption]:
        return False
    return not at or str(parse_source(source)) == source


def _steps(name: str) -> bool:
    target = name.removeprefix("steps_to_")
    return target != name and _is_number(target) and f"{float(target):g}" == target


def _diagnostic(name: str) -> bool:
    head, slash, _ = name.rpartition("/")
    return bool(slash) and name in parse_diagnostic(head).metrics


def _is_number(text: str) -> bool:
    try:
        return 0 < float(text) < float("inf")
    except ValueError:
        return False


MetricName = Annotated[str, AfterValidator(check)]
