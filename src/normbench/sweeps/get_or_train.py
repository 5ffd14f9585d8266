"""Get or train: the one place where plan, engine and store meet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from normbench import events
from normbench.record import Record
from normbench.spec import DataSpec, EngineSpec, Resolved, RunSpec
from normbench.store import Store
from normbench.sweeps.estimate import Estimate, estimate
from normbench.sweeps.plan import Pack, Plan, make_plan
from normbench.sweeps.pool import WorkerPool, worker_pool

if TYPE_CHECKING:
    from normbench.autotune.search import RunOnAll
    from normbench.autotune.tuner import Tuner
    from normbench.data.dataset import Dataset

T = TypeVar("T")


def train(
    resolved: Sequence[Resolved], store: Store, observers: Sequence[events.Observer] = ()
) -> list[Record]:
    """Records of the runs asked for, in their order; those that are missing are trained first.

    Raises:
        InputError: a run that cannot be trained as asked. Nothing was written then.
    """
    wide = _widest(resolved, _finished(resolved, store))
    if wide.packs:
        with worker_pool(stacks) if (stacks := _at_once(wide)) > 1 else nullcontext() as pool:
            _train(resolved, wide, store, observers, pool)
    records = {spec.signature: store.get(spec.signature) for spec in wide.asked}
    return [record for spec in wide.asked if (record := records[spec.signature]) is not None]


def plan(resolved: Sequence[Resolved], store: Store) -> Plan:
    """What training these runs would come to on this machine; trains, measures and writes nothing.

    Raises:
        InputError: a run that cannot be built as asked.
    """
    wide = _widest(resolved, _finished(resolved, store))
    return _packed(resolved, wide, _packings(wide, store)) if wide.packs else wide


def packing(resolved: Sequence[Resolved], todo: Plan, store: Store) -> list[str]:
    """Lines about how the stacks of a plan are packed."""
    wide = _widest(resolved, todo.finished)
    return _packings(wide, store).lines(_runs(todo), _runs(wide)) if wide.packs else []


def estimated(todo: Plan, store: Store) -> Estimate:
    """What a plan will cost on this machine.

    Raises:
        InputError: a run that cannot be built as asked.
    """
    return estimate(todo, store, _processes(todo.packs[0].specs[0].engine))


def _runs(plan: Plan) -> list[tuple[RunSpec, ...]]:
    return [pack.specs for pack in plan.packs]


def _finished(resolved: Sequence[Resolved], store: Store) -> set[str]:
    return store.finished({r.spec.signature for r in resolved})


def _widest(resolved: Sequence[Resolved], finished: Collection[str]) -> Plan:
    """The plan in which stacks have as many lanes as there are runs for them."""
    missing = [r.spec.engine for r in resolved if r.spec.signature not in finished]
    processes = _processes(missing[0]) if missing else 1
    return make_plan(resolved, finished, capacity=lambda spec: len(missing), processes=processes)


def _packed(resolved: Sequence[Resolved], wide: Plan, packings: Tuner) -> Plan:
    """The plan in which stacks have as many lanes as pay."""
    processes = _processes(wide.packs[0].specs[0].engine)
    return make_plan(resolved, wide.finished, capacity=packings.capacity, processes=processes)


def _packings(wide: Plan, store: Store) -> Tuner:
    from normbench.autotune.tuner import Tuner

    return Tuner(store.root / "cache", _at_once(wide))


def _train(
    resolved: Sequence[Resolved],
    wide: Plan,
    store: Store,
    observers: Sequence[events.Observer],
    pool: WorkerPool | None,
) -> None:
    steps = _check(wide, store)
    packings = _packings(wide, store)
    announcer = events.Announcer(observers)
    try:
        run_on_all: RunOnAll = pool.run_on_all if pool is not None else _here
        for note in packings.measure(_runs(wide), run_on_all):
            announcer.notify(events.Notice(note))
        todo = _packed(resolved, wide, packings)
        announcer.notify(events.SweepStarted(todo.distinct, len(todo.finished), len(todo.packs), steps))
        for note in todo.notes():
            announcer.notify(events.Notice(note))
        _work(todo.packs, store, packings, announcer.notify, pool)
    finally:
        announcer.close()


def _work(
    packs: Sequence[Pack],
    store: Store,
    packings: Tuner,
    emit: Callable[[events.Event], None],
    pool: WorkerPool | None,
) -> None:
    """Train packs in worker processes, or in this one."""
    import torch

    from normbench.autotune.capacity import threads
    from normbench.sweeps.worker import work

    def job(pack: Pack) -> Callable[[Callable[[events.Event], None]], None]:
        spec = pack.specs[0]
        return partial(work, pack, _data(spec, store), store, packings.of(spec))

    if pool is not None:
        pool.work(packs, job, emit, store)
        return
    for pack in packs:
        torch.set_num_threads(threads(pack.specs[0]))
        job(pack)(emit)


def _here(question: Callable[[], T]) -> list[T]:
    """What a pool of one process would answer."""
    return [question()]


def _check(todo: Plan, store: Store) -> int:
    """Refuse what cannot be trained before anything is written; return the run-steps ahead."""
    from normbench import models
    from normbench.data.shapes import shape_of
    from normbench.engine import device

    kinds: dict[str, RunSpec] = {pack.specs[0].stack_key(): pack.specs[0] for pack in todo.packs}
    for spec in kinds.values():  # all, before the first is asked for its data, which may be a download
        device.check(spec.engine)
        models.architecture(spec)
    lengths = {}
    for key, spec in kinds.items():
        shape = models.fitted(spec, shape_of(spec.data, store.root / "cache"))
        models.check(spec, shape)
        lengths[key] = spec.length(shape.train_images)
    for spec in kinds.values():
        _data(spec, store)
    store.check_writable()
    return sum(len(pack.specs) * lengths[pack.specs[0].stack_key()] for pack in todo.packs)


def _processes(engine: EngineSpec) -> int:
    from normbench.autotune.capacity import processes

    return processes(engine)


def _at_once(todo: Plan) -> int:
    """Stacks that train at a time, however they are packed: stacks are split until every process has one."""
    return min(_processes(todo.packs[0].specs[0].engine), len(todo.packs))


def _data(spec: RunSpec, store: Store) -> Dataset:
    """A run's data on the CPU, its images as the run's model wants them, in memory that workers can share."""
    from normbench import models

    return _load(spec.data, models.fitted_size(spec), store.root / "cache")


@lru_cache(maxsize=4)
def _load(spec: DataSpec, size: int | None, cache: Path) -> Dataset:
    from normbench import data

    return data.load(spec, size=size, cache=cache).share()
