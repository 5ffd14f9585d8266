"""Get or train: the one place where plan, engine and store meet."""

from __future__ import annotations

import os
from collections.abc import Sequence

from normbench import events
from normbench.estimate import Estimate, estimate
from normbench.plan import Pack, Plan, make_plan
from normbench.record import Record
from normbench.resolve import Resolved
from normbench.spec import EngineSpec, RunSpec
from normbench.store import Store


def train(
    resolved: Sequence[Resolved], store: Store, observers: Sequence[events.Observer] = ()
) -> list[Record]:
    """Records of the runs asked for, in their order; those that are missing are trained first.

    Raises:
        InputError: a run that cannot be trained as asked. Nothing was written then.
    """
    todo = plan(resolved, store)
    if todo.packs:
        steps = _check(todo, store)
        announcer = events.Announcer(observers)
        announcer.notify(events.SweepStarted(todo.distinct, len(todo.finished), len(todo.packs), steps))
        for note in todo.notes():
            announcer.notify(events.Notice(note))
        try:
            _work(todo.packs, store, announcer)
        finally:
            announcer.close()
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


def _processes(engine: EngineSpec) -> int:
    """Workers for a sweep: as many as this process may use cores on a CPU, one on a GPU."""
    from normbench.engine.device import resolve

    if resolve(engine.device).type == "cuda":
        return 1
    return len(os.sched_getaffinity(0)) if engine.processes == "auto" else engine.processes


def _check(todo: Plan, store: Store) -> int:
    """Refuse what cannot be trained before anything is written; return the run-steps ahead."""
    from normbench import models
    from normbench.engine.device import resolve
    from normbench.work import dataset_of

    shapes: dict[str, RunSpec] = {pack.specs[0].stack_key(): pack.specs[0] for pack in todo.packs}
    for spec in shapes.values():
        resolve(spec.engine.device)
        models.architecture(spec)
    steps = 0
    for spec in shapes.values():
        dataset = dataset_of(spec, store.root, resolve("cpu"))
        spec.length(len(dataset.train_labels))
        models.check(spec, dataset.shape)
    store.check_writable()
    for pack in todo.packs:
        dataset = dataset_of(pack.specs[0], store.root, resolve("cpu"))
        steps += len(pack.specs) * pack.specs[0].length(len(dataset.train_labels))
    return steps


def _work(packs: Sequence[Pack], store: Store, announcer: events.Announcer) -> None:
    engine = packs[0].specs[0].engine
    processes = min(_processes(engine), len(packs))
    if processes > 1:
        from normbench.pool import work_in_processes

        work_in_processes(packs, store, announcer.notify, processes)
    else:
        import torch

        from normbench.engine.capacity import threads
        from normbench.work import work

        for pack in packs:
            torch.set_num_threads(threads(pack.specs[0], len(os.sched_getaffinity(0))))
            work(pack, store, announcer.notify)
