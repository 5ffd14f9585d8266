"""The work on one pack: train the stack and write the records.

A stack that fails is halved and tried again. A lone run that fails is recorded as failed.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from normbench import events, models
from normbench.autotune.tuning import Tuning
from normbench.data.dataset import Dataset
from normbench.engine.device import device_name, find_device
from normbench.engine.probes.along_training import asked_of
from normbench.engine.stack_layout import StackLayout
from normbench.engine.state import LaneState
from normbench.engine.train import Listener, Result
from normbench.record import COMPLETE, DIVERGED, FAILED, Record
from normbench.spec import RunSpec
from normbench.store import Store
from normbench.sweeps.attempt import attempt
from normbench.sweeps.keep_weights import keep_weights
from normbench.sweeps.plan import Pack
from normbench.sweeps.provenance import commit, environment
from normbench.sweeps.together import train_together

#: Seconds between checkpoints: the most training time that is lost if the process is killed.
CHECKPOINT_EVERY_S = 20.0

Emit = Callable[[events.Event], None]


def train_pack(
    pack: Pack, dataset: Dataset, store: Store, tuning: Tuning, emit: Emit, places: Mapping[str, str] = {}
) -> None:
    """Train a pack and write its records. Each stack has the layout of the tuning for its width.

    Runs with a checkpoint resume from it. A stack that fails, for example for lack of memory, is halved. A
    lone run that fails gets a record of status `failed`, and its traceback goes to error.txt.

    Args:
        places: signature → time of the command and position of the run in it, as sortable text.

    Raises:
        RunFailure: the store cannot be written.
    """
    waiting = [pack]
    while waiting:
        current, states = _at_one_step(waiting.pop(0), store, waiting)
        layout = tuning.layout_at(len(current.trainings))
        train = partial(_train_to_records, current, dataset, states, layout, store, emit, places)
        failure = attempt(train)
        if failure is None:
            continue
        if len(current.specs) > 1:
            emit(events.StackSplit(current.signatures, failure.reason))
            waiting[:0] = current.halves()
        else:
            emit(events.RunEnded(_fail(current, store, failure.reason, failure.text)))


def give_up_training(pack: Pack, why: str, store: Store) -> events.Event:
    """Record a lone run as failed, because its worker died."""
    return events.RunEnded(_fail(pack, store, why))


def _fail(pack: Pack, store: Store, reason: str, text: str | None = None) -> Record:
    """Record a lone run as failed, with the reason in one line and the full text."""
    record = _record(pack, 0, FAILED, {}, (), {}, {"error": reason})
    store.put(record, error=text or reason)
    return record


def _train_to_records(
    pack: Pack,
    dataset: Dataset,
    states: list[LaneState] | None,
    layout: StackLayout,
    store: Store,
    emit: Emit,
    places: Mapping[str, str],
) -> None:
    spec = pack.specs[0]
    device = find_device(spec.engine.device)
    first = states[0]["step"] if states else 0
    specs = tuple(s.model_dump(mode="json") for s in pack.specs)
    groups = tuple(s.group() for s in pack.specs)
    steps = spec.length(len(dataset.train_labels))
    emit(events.StackStarted(pack.signatures, specs, groups, steps, first))
    listener = Listener(
        point=lambda step, points: emit(events.StackLogged(pack.signatures, step, tuple(points))),
        checkpoint=_Checkpointer(pack, store, emit),
    )
    results = train_together(pack.specs, dataset, listener, states, layout, store.root / "cache")
    if breaks := results[0].about.get("graph_breaks"):
        norm = spec.norm.name
        emit(events.Notice(f"norm={norm}: engine.compile=true divides the forward pass {breaks} times"))
    about = {"data": dataset.fitted, "device": device_name(device), "resumed_from": first, "steps": steps}
    about["memory_bytes"] = models.footprint(spec, dataset.shape)
    keep_weights(pack.specs, results, steps, store, emit)
    for number, result in enumerate(results):
        status = COMPLETE if result.diverged_at is None else DIVERGED
        timing = _timing(result, pack, first)
        own = {**about, "diverged_at": result.diverged_at, **result.about}
        if (place := places.get(pack.specs[number].signature)) is not None:
            own["asked"] = place
        record = _record(
            pack, number, status, result.metrics, result.history, timing, own, result.diagnostics
        )
        store.put(replace(record, tables=result.tables))
        emit(events.RunEnded(store.get(record.signature) or record))


def _timing(result: Result, pack: Pack, first: int) -> dict[str, float]:
    """Seconds of the stack, seconds per run, run-steps per second, and seconds per run and step. The last is
    without evaluation, diagnostics and checkpoints; the others are with them.
    """
    share = result.seconds / len(pack.specs)
    steps = (result.history[-1]["step"] or 0) - first
    each = {"step_s": result.step_seconds / len(pack.specs) / steps} if steps else {}
    return {"stack_s": result.seconds, "train_s": share, "steps_per_s": steps / share, **each}


def _record(
    pack: Pack, number: int, status: str, metrics: dict[str, float | None], history: tuple[dict[str, float |
          None], ...],
    timing: dict[str, float], about: dict[str, Any], diagnostics: tuple[dict[str, Any], ...] = (),
) -> Record:  # fmt: skip
    spec = pack.specs[number]
    [(lane, bank)] = [(lane, runs.index(spec)) for lane, runs in enumerate(pack.trainings) if spec in runs]
    device = about.pop("device", None)
    return Record(
        signature=spec.signature,
        spec=spec.model_dump(mode="json"),
        status=status,
        metrics=metrics,
        timing=timing,
        environment=environment() | ({"device": device} if device else {}),
        provenance={
            "stack_size": len(pack.trainings), "lane": lane, "bank": bank, "commit": commit(),
            "ended": datetime.now(UTC).isoformat(timespec="seconds"), **about,
        },
        history=history,
        diagnostics=diagnostics,
    )  # fmt: skip


def _at_one_step(pack: Pack, store: Store, waiting: list[Pack]) -> tuple[Pack, list[LaneState] | None]:
    """The runs of a pack with checkpoints at one step, and their states. The other runs go to `waiting`."""
    by_step: dict[int, list[tuple[RunSpec, LaneState | None]]] = defaultdict(list)
    for spec in pack.specs:
        state = _checkpoint(spec, store.checkpoint_file(spec.signature))
        by_step[state["step"] if state else 0].append((spec, state))
    (step, lanes), *others = by_step.items()
    waiting[:0] = [Pack(tuple(spec for spec, _ in lanes)) for _, lanes in others]
    states = [state for _, state in lanes if state is not None]
    return Pack(tuple(spec for spec, _ in lanes)), states if step else None


def _checkpoint(spec: RunSpec, file: Path) -> LaneState | None:
    """The state of a run from its checkpoint; None if there is none or its curve lacks wanted evaluations."""
    try:
        state: LaneState = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception:  # damaged by a crash or from an older version: the run starts from the beginning
        file.unlink(missing_ok=True)
        return None
    evaluated = {point["step"] for point in state["history"] if point.get("test_error") is not None}
    every = spec.eval.every or state["step"] + 1
    if not _has_diagnostics(spec, state):
        return None
    return state if evaluated.issuperset(range(every, state["step"] + 1, every)) else None


def _has_diagnostics(spec: RunSpec, state: LaneState) -> bool:
    """Whether the curve of a run under way has been read as the diagnostics ask."""
    return not spec.diagnostics or state.get("diagnostics", {}).get("asked") == asked_of(spec)


class _Checkpointer:
    """Writes the states every CHECKPOINT_EVERY_S. If the disk refuses, it announces one notice and stops."""

    def __init__(self, pack: Pack, store: Store, emit: Emit) -> None:
        self.pack, self.store, self.emit = pack, store, emit
        self.last = time.monotonic()

    def __call__(self, states: Callable[[], list[LaneState]]) -> None:
        if time.monotonic() - self.last < CHECKPOINT_EVERY_S:
            return
        self.last = time.monotonic()
        try:
            for spec, state in zip(self.pack.specs, states(), strict=True):
                _save(state, self.store.checkpoint_file(spec.signature))
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            self.last = float("inf")
            self.emit(events.Notice(f"no checkpoints for this stack: {str(error).splitlines()[0]}"))


def _save(state: LaneState, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=".checkpoint-")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            torch.save(state, stream)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
