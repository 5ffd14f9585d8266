"""The executor of one machine: a process per core, or per GPU, with the data in shared memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from normbench.sweeps.executors.protocol import Order, Task
from normbench.sweeps.plan import Pack
from normbench.sweeps.pool import WorkerPool
from normbench.sweeps.worker_process import Emit

T = TypeVar("T")


class LocalPool:
    """Works in the processes of a pool."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    def work(self, packs: Sequence[Pack], task: Task, emit: Emit) -> None:
        """See `Executor.work`."""

        def order(pack: Pack) -> Order:
            return task.order(pack, task.data.shared(pack.specs[0], emit))

        self._pool.work(packs, order, emit, task.give_up)

    def run_on_all(self, job: Callable[[], T]) -> list[T]:
        """See `Executor.run_on_all`."""
        return self._pool.run_on_all(job)


@contextmanager
def local_pool(size: int, gpus: Sequence[str] = ()) -> Iterator[LocalPool]:
    """An executor whose processes end with it, whatever happens.

    Args:
        size: number of processes. They start immediately.
        gpus: see `WorkerPool`.
    """
    pool = WorkerPool(size, gpus)
    try:
        yield LocalPool(pool)
    except BaseException:
        pool.close(now=True)
        raise
    pool.close()
