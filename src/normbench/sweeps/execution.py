"""The execution of a plan: packs go to worker processes or to this process, and held runs are waited for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from normbench import events
from normbench.errors import KEPT, Interrupted, RunFailure
from normbench.phrases import counted
from normbench.record import FAILED, Record, why_failed
from normbench.spec import RunSpec
from normbench.store import Store
from normbench.sweeps.plan import Pack
from normbench.sweeps.pool import WorkerPool
from normbench.sweeps.stopping import STOP
from normbench.sweeps.waiting import Waiting
from normbench.sweeps.worker_process import Emit

if TYPE_CHECKING:
    from normbench.autotune.tuning import Tuning
    from normbench.data.dataset import Dataset
    from normbench.sweeps.worker import Command

#: In place of a signal: a run failed, and `on_error=stop` was asked for.
ON_ERROR = 0


@dataclass
class Execution:
    """Trains and evaluates packs.

    Attributes:
        store:   of the runs.
        pool:    worker processes; None: this process works.
        notify:  gets every event.
        data:    run → its data, fitted to its model.
        tuning:  run → width and layouts of its stacks.
        stacks:  runs → packs.
        command: what workers must know of it.
        stops:   whether a failed run ends the command.
    """

    store: Store
    pool: WorkerPool | None
    notify: Emit
    data: Callable[[RunSpec], Dataset]
    tuning: Callable[[RunSpec], Tuning]
    stacks: Callable[[Sequence[RunSpec]], Sequence[Pack]]
    command: Command
    stops: bool = False
    held: dict[str, None] = field(default_factory=dict)
    paused: Counter[int] = field(default_factory=Counter)
    failed: list[Record] = field(default_factory=list)
    unevaluated: list[events.EvaluationFailed] = field(default_factory=list)
    told: set[str] = field(default_factory=set)

    def train(self, packs: Sequence[Pack]) -> None:
        """Train packs. Runs of other processes are waited for, and trained if their holder is gone.

        Raises:
            Stopped: the process was asked to stop.
        """
        from normbench.sweeps.worker import give_up_training, train_pack

        specs = {spec.signature: spec for pack in packs for spec in pack.specs}
        waiting = Waiting(self.store, self.command.failures, self.emit)
        while packs:
            self._work(packs, partial(train_pack, command=self.command), give_up_training)
            free, held = waiting.until_free([specs[signature] for signature in self.held])
            self.held = {spec.signature: None for spec in held}
            packs = self.stacks(free) if free else ()

    def evaluate(self, packs: Sequence[Pack], *, here: bool = False) -> None:
        """Evaluate packs of ended runs; `here`: in this process."""
        from normbench.sweeps.evaluation import evaluate_pack, give_up_evaluation

        self._work(packs, evaluate_pack, give_up_evaluation, here=here)

    def check_evaluations(self) -> None:
        """Raise if runs could not be evaluated. All others are.

        Raises:
            RunFailure: names the first one.
        """
        if self.unevaluated:
            first, *others = self.unevaluated
            more = f"; and {counted(len(others), 'more run')}" if others else ""
            raise RunFailure(f"run {first.signature} cannot be evaluated: {first.reason}{more}")

    def emit(self, event: events.Event) -> None:
        """Note what the rest of the command must know, and pass the event on."""
        match event:
            case events.Notice(text=text) if text in self.told:
                return  # several stacks say the same
            case events.Notice(text=text):
                self.told.add(text)
            case events.RunsHeld(signatures=signatures):
                self.held |= dict.fromkeys(signatures)
            case events.StackPaused(signatures=signatures, step=step):
                self.paused[step] += len(signatures)
            case events.EvaluationFailed():
                self.unevaluated.append(event)
            case events.RunEnded(record=record) if record.status == FAILED:
                self.failed.append(record)
                if self.stops:
                    STOP.ask(ON_ERROR)
        self.notify(event)

    def ending(self) -> RunFailure | Interrupted:
        """Why the command has stopped before its end, and how to go on."""
        unfinished = ""
        if self.paused:
            steps = sorted(self.paused)
            count, verb = self.paused.total(), "go on" if self.paused.total() > 1 else "goes on"
            where = f"step {steps[0]:,}" if len(steps) == 1 else f"steps {steps[0]:,} to {steps[-1]:,}"
            unfinished = f"{counted(count, 'run')} {verb} from {where}; "
        if STOP.signal == ON_ERROR and self.failed:
            first = self.failed[0]
            why = why_failed(first.provenance)
            return RunFailure(f"run {first.signature} failed: {why}; on_error=stop; {unfinished}{KEPT}")
        return Interrupted(STOP.signal or 2, f"interrupted; {unfinished}{KEPT}")

    def _work(
        self,
        packs: Sequence[Pack],
        work: Callable[..., None],
        give_up: Callable[[Pack, str, Store], events.Event],
        *,
        here: bool = False,
    ) -> None:
        """Work on packs in worker processes, or in this process if there is no pool."""
        import torch

        from normbench.autotune.cores import thread_count

        def job(pack: Pack) -> Callable[[Emit], None]:
            spec = pack.specs[0]
            return partial(work, pack, self.data(spec), self.store, self.tuning(spec))

        if self.pool is not None and not here:
            self.pool.work(packs, job, self.emit, lambda pack, why: give_up(pack, why, self.store))
            return
        for pack in packs:
            torch.set_num_threads(thread_count(pack.specs[0]))
            job(pack)(self.emit)
