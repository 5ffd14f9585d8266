"""Metrics of groups of runs for `normbench table`: the ensemble of the seeds of one configuration.

A configuration is all runs that are equal but for their seed. Its final states are evaluated now, without
training, and nothing is stored (docs/decisions/007).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from normbench.errors import InputError, reason, unknown
from normbench.record import COMPLETE, Record
from normbench.report.metrics import ENSEMBLE
from normbench.report.selection import select
from normbench.report.tables import conditions_of
from normbench.store import Store

if TYPE_CHECKING:
    from normbench.spec import RunSpec


def is_ensemble(metric: str) -> bool:
    """Whether a metric belongs to a group of runs.

    Raises:
        InputError: it is named like one, but does not exist.
    """
    if metric.startswith("ensemble_") and metric not in ENSEMBLE:
        raise unknown("metric", metric, ENSEMBLE)
    return metric in ENSEMBLE


def with_ensembles(store: Store, records: Sequence[Record], where: Sequence[str]) -> list[Record]:
    """One record per configuration: that of its first seed, with the metrics of the ensemble and its members
    under `provenance`. Diverged and failed runs are no members and stay as they are.

    Args:
        where: conditions that members must meet, see `report.selection`.

    Raises:
        InputError: no run meets the conditions; or a final state or the data is missing or damaged.
    """
    groups: dict[str, list[Record]] = {}
    found: list[Record] = []
    for record in select(records, conditions_of(where)) if records else ():
        if record.status == COMPLETE:
            groups.setdefault(_configuration(record), []).append(record)
        else:
            found.append(record)
    for members in groups.values():
        members.sort(key=lambda record: record.spec["seed"])
        metrics = members[0].metrics | _evaluate(store, members)
        provenance = members[0].provenance | {"members": [member.signature for member in members]}
        found.append(replace(members[0], metrics=metrics, provenance=provenance))
    return found


def _configuration(record: Record) -> str:
    """A text that is equal for runs that are equal but for their seed."""
    import json

    from normbench.paths import without

    return json.dumps(without(_spec(record).identity(), ("seed",)), sort_keys=True)


def _spec(record: Record) -> RunSpec:
    from normbench.spec import RunSpec

    return RunSpec.model_validate(record.spec)


def _evaluate(store: Store, members: Sequence[Record]) -> dict[str, float | None]:
    from normbench import data, models, parts
    from normbench.data.fingerprint import state
    from normbench.engine.device import find_device
    from normbench.engine.ensemble import ensemble
    from normbench.engine.final_state import read
    from normbench.spec import RunSpec

    first = _spec(members[0])
    parts.check_loaded(first.signature, members[0].spec, members[0].provenance)
    lacking = [m.signature for m in members if not store.weights_file(m.signature).exists()]
    if lacking:
        raise InputError(
            f"an ensemble is evaluated from final states, but run {lacking[0]} keeps none; train it again "
            "with keep_weights=true, or leave it out with --where"
        )
    cache = store.root / "cache"
    if state(first.data.model_dump(mode="json"), cache) != first.data.fingerprint:
        raise InputError(f"the data of run {first.signature} ({first.data.name}) changed after its training")
    # what lies outside a run's identity may differ between seeds, and a stack needs it equal
    tree = first.model_dump(mode="json")
    specs = [RunSpec.model_validate(tree | {"seed": member.spec["seed"]}) for member in members]
    device = find_device("auto")
    dataset = data.load(first.data, size=models.fitted_size(first, cache), cache=cache).to(device)
    try:
        states = [read(store.weights_file(m.signature), m.signature) for m in members]
        return ensemble(specs, states, dataset, device)
    except ValueError as error:
        raise InputError(f"the ensemble of run {first.signature}: {reason(error)}") from None
