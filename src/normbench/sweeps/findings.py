"""Findings: which runs of a command are finished, which can be evaluated, and which must train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import gcd

from normbench.conditions import ALWAYS, Condition
from normbench.diagnostics import parse_all
from normbench.record import COMPLETE, FAILED, Record
from normbench.spec import EvalSpec, RunSpec
from normbench.store import Store
from normbench.sweeps.missing_diagnostics import diagnostics_to_train, missing_diagnostics


@dataclass(frozen=True)
class Findings:
    """The distinct runs of a command, by what has to be done.

    Attributes:
        finished:    runs whose record has all metrics that the command asks for.
        to_evaluate: ended runs whose missing metrics can be computed from their final state or curve.
        to_train:    runs without a result, or with a result that lacks something only training can compute.
        again:       signature → what is missing, for the runs in `to_train` that have a result.
        lacking:     signature → what is missing, for the runs in `to_evaluate`.
    """

    finished: tuple[RunSpec, ...]
    to_evaluate: tuple[RunSpec, ...]
    to_train: tuple[RunSpec, ...]
    again: dict[str, str]
    lacking: dict[str, str]


def find(asked: Sequence[RunSpec], store: Store) -> Findings:
    """Compare the runs of a command with the records of the store. The order is kept."""
    finished, to_evaluate, to_train, again, lacking = [], [], [], {}, {}
    for spec in merged(asked):
        record = store.get(spec.signature)
        if record is None or not record.ended_well:
            to_train.append(spec)
        elif missing := _needs_training(spec, record, store):
            to_train.append(spec)
            again[spec.signature] = missing
        elif lack := _lacking(spec, record):
            to_evaluate.append(spec)
            lacking[spec.signature] = lack
        else:
            finished.append(spec)
    return Findings(tuple(finished), tuple(to_evaluate), tuple(to_train), again, lacking)


def ended_since(spec: RunSpec, store: Store, failures: Mapping[str, str]) -> Record | None:
    """The record of a run that has a result, or has failed since the command began; None if it must train.

    Args:
        failures: signature → when the run had failed before the command began.
    """
    record = store.get(spec.signature)
    if record is None:
        return None
    if record.status == FAILED:
        return None if failed_at(record) == failures.get(spec.signature) else record
    return None if _needs_training(spec, record, store) else record


def failed_at(record: Record) -> str:
    """When a run failed, as text."""
    return str(record.provenance.get("ended"))


def merged(asked: Sequence[RunSpec]) -> list[RunSpec]:
    """Each run once. If a run occurs with several evaluations, it gets all of them."""
    by_signature: dict[str, list[RunSpec]] = {}
    for spec in asked:
        by_signature.setdefault(spec.signature, []).append(spec)
    return [_with_all_evaluations(specs) for specs in by_signature.values()]


def _with_all_evaluations(specs: Sequence[RunSpec]) -> RunSpec:
    diagnostics = dict.fromkeys(each for spec in specs for each in spec.diagnostics)
    asked = tuple(map(str, parse_all(tuple(diagnostics))))
    first = specs[0] if specs[0].diagnostics == asked else specs[0].model_copy(update={"diagnostics": asked})
    if all(spec.eval == first.eval for spec in specs):
        return first
    evals = [spec.eval for spec in specs]
    every = [each.every for each in evals if each.every is not None]
    targets = {target: None for each in evals for target in each.targets}
    combined = EvalSpec(
        every=reduce(gcd, every) if every else None,
        statistics=tuple(source for each in evals for source in each.statistics),
        target=tuple(targets) or None,
        corruptions=tuple(dict.fromkeys(corruption for each in evals for corruption in each.corruptions)),
        metrics=tuple(metric for each in evals for metric in each.metrics),
    )
    return first.model_copy(update={"eval": combined})


def missing(spec: RunSpec, record: Record) -> dict[Condition, list[str]]:
    """Names of results that are asked for and that the record lacks, by the condition that they belong to.

    Every training tells loss and error by running statistics, so these are never missing.
    """
    splits = ("test", "valid") if spec.data.valid else ("test",)
    have = record.measured.union(f"{split}_{name}" for split in splits for name in ALWAYS)
    lacking = {
        condition: [name for name in condition.names(spec.eval.metrics, splits) if name not in have]
        for condition in spec.eval.conditions
    }
    return {condition: names for condition, names in lacking.items() if names}


def _lacking(spec: RunSpec, record: Record) -> str:
    """What a record lacks that needs no training, in words; empty if nothing."""
    targets = "when a target was reached" if missing_targets(spec, record) else ""
    diagnostics = ", ".join(map(str, missing_diagnostics(spec, record)))
    parts = [_described(spec, record), targets, f"diagnostics {diagnostics}" if diagnostics else ""]
    return "; ".join(filter(None, parts))


def _described(spec: RunSpec, record: Record) -> str:
    """What a record lacks that its final state can tell, in words; empty if there is nothing."""
    lacking = missing(spec, record)
    new = [each for each in lacking if f"test_error{each.suffix}" not in record.measured]
    sources = dict.fromkeys(str(each.source) for each in new if each.source.suffix)
    corruptions = dict.fromkeys(str(each.corruption) for each in new if each.corruption is not None)
    metrics = [
        metric
        for metric in spec.eval.metrics
        if any(f"test_{metric}{each.suffix}" in names for each, names in lacking.items())
    ]
    parts = {"statistics": sources, "corruptions": corruptions, "metrics": metrics}
    return "; ".join(f"{kind} {', '.join(names)}" for kind, names in parts.items() if names)


def missing_targets(spec: RunSpec, record: Record) -> list[float]:
    """The target errors that the run asks for and the record has no `steps_to_<target>` of."""
    return [target for target in spec.eval.targets if f"steps_to_{target:g}" not in record.metrics]


def _needs_training(spec: RunSpec, record: Record, store: Store) -> str:
    """What is missing and only another training can compute; empty if nothing."""
    every, steps = spec.eval.every, record.provenance.get("steps")
    if every is not None and (steps is None or every < steps) and not store.has_curve(record, every):
        return f"a curve with an evaluation every {every} steps"
    words = _described(spec, record)
    if words and record.status == COMPLETE and not store.weights_file(spec.signature).is_file():
        return f"{words}, and its weights were not kept"
    if series := diagnostics_to_train(spec, record, store):
        return f"diagnostics {', '.join(series)}"
    return ""
