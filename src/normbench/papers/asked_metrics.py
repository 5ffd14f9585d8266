"""Whether the runs of a table ask for the metrics that it shows, checked before anything trains."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from normbench.conditions import ALWAYS, quantity
from normbench.diagnostics import parse
from normbench.errors import InputError
from normbench.papers.description import PaperTable
from normbench.report.axes import METRIC
from normbench.report.metrics import TIMING
from normbench.spec import RunSpec


def check_asked(table: PaperTable, scale: str, specs: Sequence[RunSpec]) -> None:
    """Refuse a table with a metric that none of its runs will have.

    Args:
        specs: those of its runs; one is enough of runs with the same `eval` and `diagnostics`.

    Raises:
        InputError: the table or one of its claims has such a metric; the message says what asks for it.
    """
    for metric in dict.fromkeys([*table.metrics_at(scale), *_of_claims(table, scale)]):
        if specs and (key := _asked_by(metric)) and not any(_has(spec, metric, key) for spec in specs):
            raise InputError(
                f"no run of {table.given_as} has {metric} at scale {scale}; ask for it with {key}"
            )


def _of_claims(table: PaperTable, scale: str) -> Iterable[str]:
    for claim in table.scale(scale).claims:
        yield from (claim.metric,) if isinstance(claim.metric, str) else claim.metric or ()
        for place in (*claim.single, *(place for place, _ in claim.sets)):
            if METRIC in place:
                yield str(place[METRIC])


def _asked_by(metric: str) -> str:
    """The key that asks for a metric; empty if every run has it."""
    name = quantity(metric).partition("_")[2]
    if metric.startswith("steps_to_"):
        return "eval.target"
    if metric in TIMING:
        return ""
    if not metric.startswith(("train_", "test_", "valid_")):
        return "diagnostics"
    if "@" in metric:
        return "eval.statistics"
    if "/" in metric:
        return "eval.corruptions"
    return "" if name in ALWAYS else "eval.metrics"


def _has(spec: RunSpec, metric: str, key: str) -> bool:
    if key == "diagnostics":
        return any(metric in parse(text).metrics for text in spec.diagnostics)
    if key == "eval.target":
        return metric in {f"steps_to_{target:g}" for target in spec.eval.targets}
    name = quantity(metric)
    number = name.partition("_")[2]
    suffixes = {condition.suffix for condition in spec.eval.conditions}
    return metric[len(name) :] in suffixes and number in (*ALWAYS, *spec.eval.metrics)
