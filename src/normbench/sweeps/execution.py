"""The execution of a plan: packs go to an executor, and runs that other processes hold are waited for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from normbench import events
from normbench.errors import KEPT, Interrupted, RunFailure
from normbench.phrases import counted
from normbench.record import FAILED, Record, why_failed
from normbench.spec import RunSpec
from normbench.sweeps.executors.protocol import Executor, Task
from normbench.sweeps.executors.this_process import ThisProcess
from normbench.sweeps.plan import Pack
from normbench.sweeps.stopping import ON_ERROR, STOP
from normbench.sweeps.waiting import Waiting
from normbench.sweeps.worker_process import Emit


@dataclass
class Execution:
    """Trains and evaluates packs.

    Attributes:
        executor: works on packs.
        training: trains a pack.
        evaluation: evaluates the ended runs of a pack.
        notify:   gets every event.
        stacks:   runs → packs.
        stops:    whether a failed run ends the command.
    """

    executor: Executor
    training: Task
    evaluation: Task
    notify: Emit
    stacks: Callable[[Sequence[RunSpec]], Sequence[Pack]]
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
        specs = {spec.signature: spec for pack in packs for spec in pack.specs}
        waiting = Waiting(self.training.store, self.training.command.failures, self.emit)
        while packs:
            self.executor.work(packs, self.training, self.emit)
            free, held = waiting.until_free([specs[signature] for signature in self.held])
            self.held = {spec.signature: None for spec in held}
            packs = self.stacks(free) if free else ()

    def evaluate(self, packs: Sequence[Pack], *, here: bool = False) -> None:
        """Evaluate packs of ended runs; `here`: in this process."""
        executor = ThisProcess() if here else self.executor
        executor.work(packs, self.evaluation, self.emit)

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
