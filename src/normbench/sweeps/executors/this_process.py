"""The executor without other processes: stacks train one after the other in the process of the command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from normbench.sweeps.executors.protocol import Task
from normbench.sweeps.plan import Pack
from normbench.sweeps.worker_process import Emit

T = TypeVar("T")


class ThisProcess:
    """Works in this process, with as many threads as a stack can use."""

    def work(self, packs: Sequence[Pack], task: Task, emit: Emit) -> None:
        """See `Executor.work`."""
        import torch

        from normbench.autotune.cores import thread_count

        for pack in packs:
            torch.set_num_threads(thread_count(pack.specs[0]))
            task.order(pack, task.data.of(pack.specs[0]))(emit)

    def run_on_all(self, job: Callable[[], T]) -> list[T]:
        """See `Executor.run_on_all`."""
        return [job()]
