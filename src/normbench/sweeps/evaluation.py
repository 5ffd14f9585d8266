"""The work on one pack of ended runs that lack metrics: evaluate their final states, without training."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

import torch

from normbench import events
from normbench.autotune.tuning import Tuning
from normbench.data.dataset import Dataset
from normbench.engine.curve import steps_to
from normbench.engine.device import device_name, find_device
from normbench.engine.evaluate_again import evaluate_again
from normbench.engine.final_state import read
from normbench.engine.probes.afterwards import diagnose_again
from normbench.engine.probes.diagnosis import Row
from normbench.engine.stack_layout import StackLayout
from normbench.engine.tally import Measured, numbers, tables
from normbench.errors import RunFailure
from normbench.record import COMPLETE, Addition, Metrics, Record
from normbench.store import Store
from normbench.sweeps.attempt import attempt
from normbench.sweeps.findings import missing, missing_targets
from normbench.sweeps.missing_diagnostics import missing_diagnostics
from normbench.sweeps.plan import Pack
from normbench.sweeps.provenance import commit, environment
from normbench.sweeps.stopping import STOP
from normbench.sweeps.worker_process import Emit


def evaluate_pack(pack: Pack, dataset: Dataset, store: Store, tuning: Tuning, emit: Emit) -> None:
    """Evaluate ended runs as one stack, and add the missing metrics to their records.

    A stack that fails, for example for lack of memory, is halved. A lone run that fails keeps its record, and
    an event says so.

    Raises:
        StoreFailure: the store cannot be written.
        Stopped:      the process was asked to stop.
    """
    waiting = [pack]
    while waiting:
        STOP.check()
        current = waiting.pop(0)
        layout = tuning.layout_at(len(current.trainings))
        failure = attempt(partial(_evaluate, current, dataset, store, layout, emit))
        if failure is None:
            continue
        if len(current.specs) == 1:
            emit(events.EvaluationFailed(current.signatures[0], failure.reason))
        else:
            waiting[:0] = current.halves()


def give_up_evaluation(pack: Pack, why: str, store: Store) -> events.Event:
    """The event if a worker died while it evaluated a lone run. The run keeps its record."""
    return events.EvaluationFailed(pack.signatures[0], why)


def _evaluate(pack: Pack, dataset: Dataset, store: Store, layout: StackLayout, emit: Emit) -> None:
    spec = pack.specs[0]
    device = find_device(spec.engine.device)
    records = [_known(store, signature) for signature in pack.signatures]
    complete = [i for i, record in enumerate(records) if record.status == COMPLETE]
    measured: list[Measured] = [{} for _ in records]
    lacking = dict.fromkeys(condition for i in complete for condition in missing(spec, records[i]))
    if lacking:
        found = evaluate_again(
            [pack.specs[i] for i in complete],
            [read(store.weights_file(pack.signatures[i]), pack.signatures[i]) for i in complete],
            dataset.to(device), device, tuple(lacking), spec.eval.metrics, layout,
        )  # fmt: skip
        for i, metrics in zip(complete, found, strict=True):
            measured[i] = metrics
    diagnosed = _diagnose(pack, records, dataset, store, device, layout)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    provenance = {"stack_size": len(pack.trainings), "commit": commit(), "evaluated": now}
    about = environment() | {"device": device_name(device)}
    for each, record, own, (scalars, rows) in zip(pack.specs, records, measured, diagnosed, strict=True):
        wanted: Measured = {name: own.get(name) for names in missing(each, record).values() for name in names}
        added = numbers(wanted)
        if targets := missing_targets(each, record):
            added |= steps_to(targets, store.history(record.signature))
        added |= scalars
        store.add(Addition(record.signature, added, about, provenance, tables=tables(wanted)), rows)
        emit(events.RunEvaluated(_known(store, record.signature), tuple(added)))


def _known(store: Store, signature: str) -> Record:
    record = store.get(signature)
    if record is None:
        raise RunFailure(f"the record of run {signature} was removed while it was evaluated")
    return record


def _diagnose(
    pack: Pack,
    records: Sequence[Record],
    dataset: Dataset,
    store: Store,
    device: torch.device,
    layout: StackLayout,
) -> list[tuple[Metrics, list[Row]]]:
    """The diagnostics that each run lacks: metrics, all None if it diverged, and rows for
    diagnostics.jsonl.
    """
    missing = [missing_diagnostics(spec, record) for spec, record in zip(pack.specs, records, strict=True)]
    found: list[tuple[Metrics, list[Row]]] = [
        ({name: None for asked in lacks for name in asked.metrics}, []) for lacks in missing
    ]
    complete = [i for i, record in enumerate(records) if record.status == COMPLETE]
    if asked := dict.fromkeys(each for i in complete for each in missing[i]):
        read_again = diagnose_again(
            [pack.specs[i] for i in complete],
            [read(store.weights_file(pack.signatures[i]), pack.signatures[i]) for i in complete],
            [store.history(records[i].signature) for i in complete],
            dataset.to(device), device, tuple(asked), layout,
        )  # fmt: skip
        for i, (scalars, rows) in zip(complete, read_again, strict=True):
            labels = {each.label for each in missing[i]}
            found[i] = (
                {name: scalars.get(name) for name in found[i][0]},
                [row for row in rows if row["name"].rpartition("/")[0] in labels],
            )
    return found
