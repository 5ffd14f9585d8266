"""Get or train: the one place where plan, engine and store meet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from normbench import events
from normbench.estimate import Estimate, estimate
from normbench.plan import Pack, Plan, make_plan
from normbench.pool import Crew, crew
from normbench.record import Record
from normbench.resolve import Resolved
from normbench.spec import DataSpec, EngineSpec, RunSpec
from normbench.store import Store

if TYPE_CHECKING:
    from normbench.data.dataset import Dataset


def train(
    resolved: Sequence[Resolved], store: Store, observers: Sequence[events.Observer] = ()
) -> list[Record]:
    """Records of the runs asked for, in their order; those that are missing are trained first.

    Raises:
        InputError: a run that cannot be trained as asked. Nothing was written then.
    """
    todo = plan(resolved, store)
    processes = min(_processes(todo.packs[0].specs[0].engine), len(todo.packs)) if todo.packs else 0
    if processes > 1:
        with crew(processes, store) as hired:
            _train(todo, store, observers, hired)
    elif processes == 1:
        _train(todo, store, observers, None)
    records = {spec.signature: store.get(spec.signature) for spec in todo.asked}
    return [record for spec in todo.asked if (record := records[spec.signature]) is not None]


def plan(resolved: Sequence[Resolved], store: Store) -> Plan:
    """What training these runs would come to on this machine; trains and writes nothing."""
    finished = store.finished({r.spec.signature for r in resolved})
    missing = [r.spec.engine for r in resolved if r.spec.signature not in finished]
    if not missing:
        return make_plan(resolved, finished, capacity=lambda spec: 1)
    from normbench.engine.capacity import capacity

    return make_plan(resolved, finished, capacity=capacity, processes=_processes(missing[0]))


def estimated(todo: Plan, store: Store) -> Estimate:
    """What a plan will cost on this machine.

    Raises:
        InputError: a run that cannot be built as asked.
    """
    return estimate(todo, store, _processes(todo.packs[0].specs[0].engine))


def _train(todo: Plan, store: Store, observers: Sequence[events.Observer], hired: Crew | None) -> None:
    steps = _check(todo, store)
    announcer = events.Announcer(observers)
    try:
        announcer.notify(events.SweepStarted(todo.distinct, len(todo.finished), len(todo.packs), steps))
        for note in todo.notes():
            announcer.notify(events.Notice(note))
        if hired is not None:
            hired.work(todo.packs, lambda pack: _data(pack.specs[0], store), announcer.notify)
        else:
            _work_here(todo.packs, store, announcer)
    finally:
        announcer.close()


def _work_here(packs: Sequence[Pack], store: Store, announcer: events.Announcer) -> None:
    import torch

    from normbench.engine.capacity import threads
    from normbench.work import work

    for pack in packs:
        torch.set_num_threads(threads(pack.specs[0], _cores()))
        work(pack, _data(pack.specs[0], store), store, announcer.notify)


def _check(todo: Plan, store: Store) -> int:
    """Refuse what cannot be trained before anything is written; return the run-steps ahead."""
    from normbench import models
    from normbench.engine.device import resolve

    kinds: dict[str, RunSpec] = {pack.specs[0].stack_key(): pack.specs[0] for pack in todo.packs}
    for (
        spec
    ) in kinds.values():  # all of them, before the first is asked for its data, which may be a download
        resolve(spec.engine.device)
        models.architecture(spec)
    for spec in kinds.values():
        models.check(spec, _data(spec, store).shape)
    lengths = {key: spec.length(_data(spec, store).shape.train_images) for key, spec in kinds.items()}
    store.check_writable()
    return sum(len(pack.specs) * lengths[pack.specs[0].stack_key()] for pack in todo.packs)


def _processes(engine: EngineSpec) -> int:
    """Workers for a sweep: as many as this process may use cores on a CPU, one on a GPU."""
    from normbench.engine.device import resolve

    if resolve(engine.device).type == "cuda":
        return 1
    return _cores() if engine.processes == "auto" else engine.processes


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _data(spec: RunSpec, store: Store) -> Dataset:
    """A run's data on the CPU, its images as the run's model wants them, in memory that workers can share."""
    from normbench import models

    return _load(spec.data, models.fitted_size(spec), store.root / "cache")


@lru_cache(maxsize=4)
def _load(spec: DataSpec, size: int | None, cache: Path) -> Dataset:
    from normbench import data

    return data.load(spec, size=size, cache=cache).share()
