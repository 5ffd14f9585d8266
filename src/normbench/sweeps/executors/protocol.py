"""The protocol of executors: packs in, events out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from normbench import events
from normbench.spec import RunSpec
from normbench.store import Store
from normbench.sweeps.command import Command
from normbench.sweeps.plan import Pack
from normbench.sweeps.sweep_data import SweepData
from normbench.sweeps.worker_process import Emit

if TYPE_CHECKING:
    from normbench.autotune.tuning import Tuning
    from normbench.data.dataset import Dataset

T = TypeVar("T")

#: Names of tasks.
TRAIN, EVALUATE = "train", "evaluate"


@dataclass(frozen=True)
class Task:
    """What is done with packs.

    Attributes:
        name:    TRAIN or EVALUATE.
        store:   of the runs.
        command: what workers must know of the command.
        data:    gives the data of runs, on this machine.
        tuning:  run → width and layouts of its stacks, on this machine.
    """

    name: str
    store: Store
    command: Command
    data: SweepData
    tuning: Callable[[RunSpec], Tuning]

    def order(self, pack: Pack, dataset: Dataset) -> Order:
        """The work on one pack for a process of this machine, with the data that it needs."""
        return Order(self.name, pack, self.store, self.command, dataset, self.tuning(pack.specs[0]))

    def give_up(self, pack: Pack, why: str) -> events.Event:
        """Handle a lone run whose process has died twice: a failed record, or a failed evaluation."""
        from normbench.sweeps.evaluation import give_up_evaluation
        from normbench.sweeps.worker import give_up_training

        give_up = give_up_training if self.name == TRAIN else give_up_evaluation
        return give_up(pack, why, self.store)


@dataclass(frozen=True)
class Order:
    """The work on one pack, as a value that another process can do.

    Attributes:
        task:    TRAIN or EVALUATE.
        dataset: fitted to the model; None: the process loads it from the cache of the store.
        tuning:  of the stack; None: what is known of the machine of that process.
    """

    task: str
    pack: Pack
    store: Store
    command: Command
    dataset: Dataset | None = None
    tuning: Tuning | None = None

    def __call__(self, emit: Emit) -> None:
        """Do the work; `emit` gets the events.

        Raises:
            StoreFailure: the store cannot be written.
            Stopped:      the process was asked to stop. The checkpoints are written.
        """
        from normbench.autotune.tuner import Tuner
        from normbench.sweeps.evaluation import evaluate_pack
        from normbench.sweeps.worker import train_pack

        spec, cache = self.pack.specs[0], self.store.root / "cache"
        dataset = SweepData(cache).of(spec) if self.dataset is None else self.dataset
        tuning = Tuner(cache, 1).of(spec) if self.tuning is None else self.tuning
        if self.task == TRAIN:
            train_pack(self.pack, dataset, self.store, tuning, emit, self.command)
        else:
            evaluate_pack(self.pack, dataset, self.store, tuning, emit)


class Executor(Protocol):
    """Works on packs, here or elsewhere."""

    def work(self, packs: Sequence[Pack], task: Task, emit: Emit) -> None:
        """Work on packs, the first one first. Returns when all are done. `emit` gets every event, here.

        A pack whose process dies is halved. A lone run whose process dies twice is given up.

        Raises:
            StoreFailure: the store cannot be written.
            RunFailure:   no process can begin, or a plugin has changed.
            Stopped:      this process was asked to stop.
        """

    def run_on_all(self, job: Callable[[], T]) -> list[T]:
        """The results of a job in every process of this machine that will train, all at the same time.

        Raises:
            RunFailure: the job failed in a process, or a process died.
        """
