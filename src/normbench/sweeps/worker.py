"""The work on one pack: take the leases of its runs, train the stack and write the records.

A stack that fails is halved and tried again. A lone run that fails is tried again once, then recorded as
failed. Runs that other processes train are left to them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from normbench import events, models
from normbench.autotune.tuning import Tuning
from normbench.data.dataset import Dataset
from normbench.engine.device import device_name, find_device
from normbench.engine.freed_memory import keep_freed_memory
from normbench.engine.stack_layout import StackLayout
from normbench.engine.state import LaneState, UnfitState
from normbench.engine.train import Listener
from normbench.errors import RanksParted, StoreFailure
from normbench.leases import Watch
from normbench.record import COMPLETE, DIVERGED, FAILED
from normbench.spec import RunSpec
from normbench.store import Store
from normbench.sweeps import checkpoints
from normbench.sweeps.attempt import attempt
from normbench.sweeps.checkpointer import Checkpointer, Clockwork
from normbench.sweeps.command import NOBODY, Command
from normbench.sweeps.findings import ended_since
from normbench.sweeps.held_leases import HeldLeases, LeaseLost
from normbench.sweeps.keep_weights import keep_weights
from normbench.sweeps.periodically import periodically
from normbench.sweeps.plan import Pack
from normbench.sweeps.run_records import record_of, timing_of
from normbench.sweeps.stopping import STOP, Stopped
from normbench.sweeps.together import train_together
from normbench.sweeps.worker_process import Emit


def train_pack(
    pack: Pack, dataset: Dataset, store: Store, tuning: Tuning, emit: Emit, command: Command = NOBODY
) -> None:
    """Train a pack and write its records. Each stack has the layout of the tuning for its width.

    The leases of all runs are taken first. Runs with a checkpoint resume from it. A stack that fails, for
    example for lack of memory, is halved. A lone run that fails twice gets a record of status `failed`, and
    its traceback goes to error.txt.

    Raises:
        StoreFailure: the store cannot be written.
        Stopped:      the process was asked to stop. The checkpoints are written.
    """
    keep_freed_memory()
    leases = HeldLeases(store, Watch())
    with STOP.while_training(), periodically(1.0, Clockwork(leases)):
        try:
            ours = _claim(pack, store, leases, emit, command)
            _train_claimed(ours, dataset, store, tuning, leases, emit, command)
        finally:
            leases.release_all()


def give_up_training(pack: Pack, why: str, store: Store) -> events.Event:
    """Record a lone run as failed, because its worker has died twice. It may be another process's by now."""
    leases = HeldLeases(store, Watch())
    if leases.take(pack.trainings):
        return events.RunsHeld(pack.signatures)
    try:
        return _fail(pack, store, leases, why)
    finally:
        leases.release_all()


def _claim(pack: Pack, store: Store, leases: HeldLeases, emit: Emit, command: Command) -> list[RunSpec]:
    """Take the leases of a pack. Return the runs to train here; announce those of other processes."""
    try:
        others = leases.take(pack.trainings)
    except OSError as error:
        raise StoreFailure(f"no lease can be written to {store.root}: {error.strerror or error}") from error
    if others:
        emit(events.RunsHeld(tuple(others)))
    ours = []
    for spec in pack.specs:
        if spec.signature in others:
            continue
        if (record := ended_since(spec, store, command.failures)) is not None:
            leases.release(spec.signature)
            emit(events.RunEndedElsewhere(record))
        else:
            ours.append(spec)
    return ours


def _train_claimed(
    specs: list[RunSpec],
    dataset: Dataset,
    store: Store,
    tuning: Tuning,
    leases: HeldLeases,
    emit: Emit,
    command: Command,
) -> None:
    waiting = [Pack(tuple(specs))] if specs else []
    while waiting:
        STOP.check()
        current, states = _at_one_step(waiting.pop(0), dataset, store, waiting, emit)
        layout = tuning.layout_at(len(current.trainings))
        train = partial(_train_to_records, current, dataset, states, layout, store, leases, emit, command)
        try:
            failure = attempt(train, LeaseLost, UnfitState, Stopped, RanksParted)
        except LeaseLost as lost:
            emit(events.StackSplit(current.signatures, str(lost), "its other runs continue"))
            emit(events.RunsHeld(tuple(lost.signatures)))
            if rest := tuple(spec for spec in current.specs if spec.signature in leases.held):
                waiting.insert(0, Pack(rest))
            continue
        except UnfitState as unfit:
            emit(events.StackSplit(current.signatures, "a checkpoint does not fit", "its runs start again"))
            for position in unfit.positions:
                checkpoints.set_aside(current.specs[position], store, str(unfit), _notify(emit))
            waiting.insert(0, current)
            continue
        if failure is None:
            continue
        again = current.after_failure()
        if len(again) > 1:
            emit(events.StackSplit(current.signatures, failure.reason))
            waiting[:0] = again
        elif again and not failure.certain:
            emit(events.StackSplit(current.signatures, failure.reason, "it is tried again"))
            waiting += again
        else:
            emit(_fail(current, store, leases, failure.reason, failure.text))


def _fail(
    pack: Pack, store: Store, leases: HeldLeases, reason: str, text: str | None = None
) -> events.RunEnded | events.RunsHeld:
    """Record a lone run as failed, with the reason in one line and the full text, and give it back."""
    record = record_of(pack, 0, FAILED, {}, (), {}, {"error": reason})
    try:
        store.put(record, error=text or reason, guard=leases.guard(record.signature))
    except LeaseLost:
        return events.RunsHeld(pack.signatures)
    leases.release(record.signature)
    return events.RunEnded(record)


def _train_to_records(
    pack: Pack,
    dataset: Dataset,
    states: list[LaneState] | None,
    layout: StackLayout,
    store: Store,
    leases: HeldLeases,
    emit: Emit,
    command: Command,
) -> None:
    spec = pack.specs[0]
    device = find_device(spec.engine.device)
    first = states[0]["step"] if states else 0
    specs = tuple(s.model_dump(mode="json") for s in pack.specs)
    groups = tuple(s.group() for s in pack.specs)
    steps = spec.length(len(dataset.train_labels))
    leases.start(first, steps, len(pack.specs))
    emit(events.StackStarted(pack.signatures, specs, groups, steps, first))
    listener = Listener(
        point=lambda step, points: emit(events.StackLogged(pack.signatures, step, tuple(points))),
        checkpoint=Checkpointer(pack, steps, store, leases, emit),
        pulse=STOP.pulse,
    )
    results = train_together(pack.specs, dataset, listener, states, layout, store.root / "cache")
    if breaks := results[0].about.get("graph_breaks"):
        norm = spec.norm.name
        emit(events.Notice(f"norm={norm}: engine.compile=true divides the forward pass {breaks} times"))
    about = {"data": dataset.fitted, "device": device_name(device), "resumed_from": first, "steps": steps}
    about["memory_bytes"] = models.footprint(spec, dataset.shape)
    lost = leases.lost(pack.signatures)
    kept = [
        (each, result) for each, result in zip(pack.specs, results, strict=True) if each.signature not in lost
    ]
    keep_weights([each for each, _ in kept], [result for _, result in kept], steps, store, emit, leases.guard)
    for number, result in enumerate(results):
        status = COMPLETE if result.diverged_at is None else DIVERGED
        timing = timing_of(result, pack, first)
        own = {**about, "diverged_at": result.diverged_at, **result.about}
        if (place := command.places.get(pack.specs[number].signature)) is not None:
            own["asked"] = place
        record = record_of(
            pack, number, status, result.metrics, result.history, timing, own, result.diagnostics
        )
        try:
            store.put(replace(record, tables=result.tables), guard=leases.guard(record.signature))
        except LeaseLost:
            lost.add(record.signature)
            continue
        emit(events.RunEnded(store.get(record.signature) or record))
        leases.release(record.signature)
    if lost:
        raise LeaseLost(lost)


def _at_one_step(
    pack: Pack, dataset: Dataset, store: Store, waiting: list[Pack], emit: Emit
) -> tuple[Pack, list[LaneState] | None]:
    """The runs of a pack with checkpoints at one step, and their states. The other runs go to `waiting`."""
    by_step: dict[tuple[int, int], list[tuple[RunSpec, LaneState | None]]] = defaultdict(list)
    steps = pack.specs[0].length(len(dataset.train_labels))
    for spec in pack.specs:
        state = checkpoints.load(spec, steps, store, _notify(emit))
        by_step[(state["step"], state["counted"]) if state else (0, 0)].append((spec, state))
    ((step, _), lanes), *others = by_step.items()
    waiting[:0] = [replace(pack, specs=tuple(spec for spec, _ in lanes)) for _, lanes in others]
    states = [state for _, state in lanes if state is not None]
    return replace(pack, specs=tuple(spec for spec, _ in lanes)), states if step else None


def _notify(emit: Emit) -> Callable[[str], None]:
    return lambda text: emit(events.Notice(text))
