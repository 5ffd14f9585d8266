"""What of the runs that are asked for is there already, what can be evaluated, and what must be trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import gcd

from normbench.record import COMPLETE, Record
from normbench.spec import EvalSpec, RunSpec
from normbench.store import Store


@dataclass(frozen=True)
class Findings:
    """The distinct runs that are asked for, by what has to be done.

    Attributes:
        finished:    they have a record with all metrics that are asked for.
        to_evaluate: they have ended, and the metrics that they lack follow from what is kept of them.
        to_train:    they have no result, or lack something that only training can tell.
        again:       signatures among `to_train` that have a result already, with what they lack.
    """

    finished: tuple[RunSpec, ...]
    to_evaluate: tuple[RunSpec, ...]
    to_train: tuple[RunSpec, ...]
    again: dict[str, str]


def find(asked: Sequence[RunSpec], store: Store) -> Findings:
    """Compare the runs that are asked for with what the store holds; the order is kept."""
    finished, to_evaluate, to_train, again = [], [], [], {}
    for spec in merged(asked):
        record = store.get(spec.signature)
        if record is None or not record.ended_well:
            to_train.append(spec)
        elif lack := _only_training_tells(spec, record, store):
            to_train.append(spec)
            again[spec.signature] = lack
        elif missing_sources(spec, record) or missing_targets(spec, record):
            to_evaluate.append(spec)
        else:
            finished.append(spec)
    return Findings(tuple(finished), tuple(to_evaluate), tuple(to_train), again)


def merged(asked: Sequence[RunSpec]) -> list[RunSpec]:
    """Each run once. If a run is asked for with several evaluations, it gets all of them."""
    by_signature: dict[str, list[RunSpec]] = {}
    for spec in asked:
        by_signature.setdefault(spec.signature, []).append(spec)
    return [_with_all_evaluations(specs) for specs in by_signature.values()]


def _with_all_evaluations(specs: Sequence[RunSpec]) -> RunSpec:
    first = specs[0]
    if all(spec.eval == first.eval for spec in specs):
        return first
    evals = [spec.eval for spec in specs]
    every = [each.every for each in evals if each.every is not None]
    targets = {target: None for each in evals for target in each.targets}
    together = EvalSpec(
        every=reduce(gcd, every) if every else None,
        statistics=tuple(dict.fromkeys(source for each in evals for source in each.statistics)),
        target=tuple(targets) or None,
    )
    return first.model_copy(update={"eval": together})


def missing_sources(spec: RunSpec, record: Record) -> list[str]:
    """The statistics sources that are asked for and of which the record has no metrics."""
    return [s for s in spec.eval.statistics if s != "running" and f"test_error@{s}" not in record.metrics]


def missing_targets(spec: RunSpec, record: Record) -> list[float]:
    """The target errors that are asked for and of which the record does not say when they were reached."""
    return [target for target in spec.eval.targets if f"steps_to_{target:g}" not in record.metrics]


def _only_training_tells(spec: RunSpec, record: Record, store: Store) -> str:
    """What only another training can tell; empty if there is nothing."""
    every, steps = spec.eval.every, record.provenance.get("steps")
    if every is not None and (steps is None or every < steps) and not store.has_curve(record, every):
        return f"a curve with an evaluation every {every} steps"
    sources = missing_sources(spec, record)
    if sources and record.status == COMPLETE and not store.weights_file(spec.signature).is_file():
        return f"statistics {', '.join(sources)}, and its weights were not kept"
    return ""
