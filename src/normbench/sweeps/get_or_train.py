"""Get or train: from the specs of one command to its records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from normbench import events, labels, parts
from normbench.errors import InputError, StoreFailure
from normbench.executor_spec import HERE, ExecutorSpec
from normbench.phrases import counted
from normbench.ranks import launched
from normbench.record import FAILED, Record
from normbench.run_folder import check_places
from normbench.spec import Resolved, RunSpec
from normbench.store import Store
from normbench.sweeps.command import Command
from normbench.sweeps.estimate import Estimate, estimate
from normbench.sweeps.execution import Execution
from normbench.sweeps.executors import choice
from normbench.sweeps.executors.protocol import EVALUATE, TRAIN, Executor, Task
from normbench.sweeps.findings import Findings, failed_at, find
from normbench.sweeps.plan import Pack, Plan, stacks
from normbench.sweeps.stopping import STOP, Stopped
from normbench.sweeps.sweep_data import SweepData
from normbench.sweeps.tidy import tidy
from normbench.sweeps.under_way import notes

if TYPE_CHECKING:
    from normbench.autotune.tuner import Tuner

#: What becomes of the other runs if one fails.
CONTINUE, STOP_ON_ERROR = "continue", "stop"


def train(
    resolved: Sequence[Resolved], store: Store, observers: Sequence[events.Observer] = ()
) -> list[Record]:
    """The records of the runs of a command, in their order. Missing runs are trained or evaluated first.

    Raises:
        InputError: a run cannot be trained. Nothing was written.
        RunFailure: the store cannot be written, or a finished run cannot be evaluated.
    """
    return Sweep(resolved, store).train(observers)


class Sweep:
    """The runs of one command, in stages: findings, widest, tuner, plan, estimate, train.

    Every stage is computed once, on first use. Only `train` writes anything.

    Args:
        resolved: the runs of the command, including duplicates.
        store:    the store of their records.
        on_error: "continue", or "stop": whether the first failed run ends the command.
        executor: where the stacks train.

    Raises:
        InputError: in any stage, if a run cannot be built.
    """

    def __init__(
        self,
        resolved: Sequence[Resolved],
        store: Store,
        on_error: str = CONTINUE,
        executor: ExecutorSpec = HERE,
    ) -> None:
        self.asked = [each.spec for each in resolved]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.places = {spec.signature: f"{now} {place:06d}" for place, spec in enumerate(self.asked)}
        self.dropped = Counter(knob for each in resolved for knob in each.unused)
        self.store, self.on_error, self.executor = store, on_error, executor
        self.data = SweepData(store.root / "cache")

    @cached_property
    def findings(self) -> Findings:
        """What is finished, what can be evaluated, and what must be trained."""
        return find(self.asked, self.store)

    @cached_property
    def processes(self) -> int:
        """Stacks that may train at the same time on this machine; 1 if they train on others."""
        todo = (*self.findings.to_train, *self.findings.to_evaluate)
        return choice.processes(self.executor, todo[0].engine) if todo else 1

    @cached_property
    def widest(self) -> tuple[Pack, ...]:
        """The runs to train, in the widest possible stacks."""
        todo = self.findings.to_train
        return stacks(todo, capacity=_widest(len(todo)), processes=self.processes)

    @cached_property
    def at_once(self) -> int:
        """Number of stacks that train or are evaluated at the same time, if they are as wide as possible."""
        todo = (*self.findings.to_train, *self.findings.to_evaluate)
        widest = stacks(todo, capacity=_widest(len(todo)), processes=self.processes)
        return max(1, min(self.processes, len(widest)))

    @cached_property
    def tuner(self) -> Tuner:
        """Chooses the width and the layout of stacks on this machine."""
        from normbench.autotune.tuner import Tuner

        sharing = 1 if self.gpus else self.at_once  # stacks on one device
        return Tuner(self.store.root / "cache", sharing, self.store.records)

    @cached_property
    def gpus(self) -> tuple[str, ...]:
        """The GPUs that train stacks side by side, if several were asked for."""
        todo = (*self.findings.to_train, *self.findings.to_evaluate)
        return choice.gpus(self.executor, todo[0].engine) if todo else ()

    @cached_property
    def plan(self) -> Plan:
        """The stacks, with the widths that are fastest according to the measurements so far."""
        found = self.findings
        evaluations: tuple[Pack, ...] = ()
        if found.to_evaluate:
            evaluations = stacks(found.to_evaluate, capacity=self._capacity, processes=self.processes)
        return Plan(
            runs=len({spec.signature for spec in self.asked}),
            finished=len(found.finished),
            packs=tuple(self._stacks(found.to_train)) if found.to_train else (),
            evaluations=evaluations,
            notes=tuple(self._notes()),
        )

    def _capacity(self, spec: RunSpec) -> int:
        """The most lanes of a stack of such runs, where they train."""
        if self.executor.elsewhere:
            return choice.width_elsewhere(spec, self.executor)
        return self.tuner.capacity(spec)

    def _cost(self, pack: Pack) -> float:
        """Estimated seconds of training a stack; its lanes if it trains on another machine."""
        return len(pack.trainings) if self.executor.elsewhere else self.tuner.seconds(pack.specs)

    def tuning_lines(self) -> list[str]:
        """Where the stacks train, and their widths with the reasons, as lines of the plan."""
        if not self.plan.packs:
            return []
        where = choice.lines(self.executor, len(self.plan.packs), self.gpus)
        if self.executor.elsewhere:
            return where
        known = self.tuner.lines([pack.specs for pack in self.plan.packs], [p.specs for p in self.widest])
        return [*where, *known]

    def estimate(self) -> Estimate | None:
        """The time and memory that training the plan needs; None if it trains on other machines."""
        return None if self.executor.elsewhere else estimate(self.plan, self.tuner, self.processes)

    def weights_lines(self) -> list[str]:
        """The disk space for the final states of the runs to train, as lines of the plan."""
        from normbench import models
        from normbench.data.shapes import shape_of
        from normbench.engine.final_state import state_bytes
        from normbench.sweeps.keep_weights import expected

        sizes = []
        for spec in self.findings.to_train:
            shape = models.fitted(spec, shape_of(spec.data, self.store.root / "cache"))
            sizes.append((spec.keep_weights, state_bytes(spec, shape)))
        return expected(sizes, self.store.kept_bytes())

    def train(self, observers: Sequence[events.Observer] = ()) -> list[Record]:
        """Train and evaluate what is missing. Return the records of all runs of the command, in their order.

        Raises:
            InputError:  a run cannot be trained. Nothing was written.
            RunFailure:  the store cannot be written, a record of the sweep was removed meanwhile, a
                         finished run cannot be evaluated, or a run failed and `on_error` is "stop".
            Interrupted: a signal asked to end. Checkpoints are written, unless it came twice.
        """
        announcer = events.Announcer(observers)
        try:
            with STOP.heard():
                if self.findings.to_train or self.findings.to_evaluate:
                    at_once, gpus = self.at_once, self.gpus
                    with choice.opened(self.executor, at_once, gpus, self.store.root) as executor:
                        self._train_and_evaluate(announcer.notify, executor)
                else:
                    self._announce_found(announcer.notify)
        finally:
            announcer.close()
        records = {signature: self.store.get(signature) for signature in self.places}
        if gone := [signature for signature, record in records.items() if record is None]:
            raise StoreFailure(
                f"{counted(len(gone), 'record')} of this sweep cannot be read in {self.store.root}, "
                f"the first is {gone[0]}: removed or damaged meanwhile; the same command trains them again"
            )
        return [record for spec in self.asked if (record := records[spec.signature]) is not None]

    def _train_and_evaluate(self, emit: Callable[[events.Event], None], executor: Executor) -> None:
        steps = self._check()
        if not self.executor.submits:
            for note in self.tuner.measure([pack.specs for pack in self.widest], executor.run_on_all):
                emit(events.Notice(note))
        varying = tuple(labels.varying([spec.tree() for spec in self.asked]))
        plan = self.plan
        emit(events.SweepStarted(plan.runs, plan.finished, len(plan.packs), steps, plan.to_evaluate, varying))
        self._announce_found(emit)
        for note in plan.notes:
            emit(events.Notice(note))
        command = Command(self.places, self._failures)
        training, evaluation = (
            Task(name, self.store, command, self.data, self.tuner.of) for name in (TRAIN, EVALUATE)
        )
        stops = self.on_error == STOP_ON_ERROR
        execution = Execution(executor, training, evaluation, emit, self._stacks, stops)
        try:
            execution.train(plan.packs)
            execution.evaluate(plan.evaluations)
            # records that still lack metrics, such as those of runs that diverged early
            left = find(self.asked, self.store).to_evaluate
            execution.evaluate([Pack((spec,)) for spec in left], here=True)
        except Stopped:
            raise execution.ending() from None
        execution.check_evaluations()

    @cached_property
    def _failures(self) -> dict[str, str]:
        """When runs had failed before this command began, by signature."""
        records = [self.store.get(spec.signature) for spec in self.findings.to_train]
        return {r.signature: failed_at(r) for r in records if r is not None and r.status == FAILED}

    def _stacks(self, specs: Sequence[RunSpec]) -> Sequence[Pack]:
        """The packs of runs to train."""
        return stacks(specs, capacity=self._capacity, processes=self.processes, cost=self._cost)

    def _announce_found(self, emit: Callable[[events.Event], None]) -> None:
        for spec in self.findings.finished:
            tidy(self.store, spec.signature)
            if (record := self.store.get(spec.signature)) is not None:
                emit(events.RunFound(record))

    @cached_property
    def faults(self) -> dict[str, InputError]:
        """Signature → error, for unfinished runs that cannot be built. Trains and writes nothing.

        Raises:
            InputError: the device does not exist, so no run can be built.
        """
        from normbench.sweeps.faults import find_faults

        todo = (*self.findings.to_train, *self.findings.to_evaluate)
        return find_faults(todo, self.store.root / "cache", here=not self.executor.elsewhere)

    def _check(self) -> int:
        """Refuse runs that cannot be trained, before anything is written. Return the run-steps to train."""
        from normbench import models
        from normbench.autotune.memory import check_room
        from normbench.data.shapes import shape_of

        if self.faults:
            raise next(iter(self.faults.values()))
        lengths = {}
        for spec in (*self.findings.to_train, *self.findings.to_evaluate):
            if spec.stack_key() not in lengths:
                shape = models.fitted(spec, shape_of(spec.data, self.store.root / "cache"))
                lengths[spec.stack_key()] = spec.length(shape.train_images)
                if not self.executor.elsewhere:
                    check_room(spec, shape)
                self.data.of(spec)
        self.store.check_writable()
        check_places(self.store.run_folder(spec.signature) for spec in self.findings.to_train)
        return sum(lengths[spec.stack_key()] for spec in self.findings.to_train)

    def _notes(self) -> Iterator[str]:
        yield from notes(self.findings.to_train, self.store)
        for knob, count in self.dropped.items():
            yield f"{knob} has no effect: dropped in {counted(count, 'run')}"
        yield from parts.remarks([spec.tree() for spec in self.findings.to_train])
        yield from self.data.notes((*self.findings.to_train, *self.findings.to_evaluate))
        if (count := launched().count) > 1:
            yield f"{count} ranks of torchrun train each stack together"
        asked, distinct = len(self.asked), len({spec.signature for spec in self.asked})
        if doubled := asked - distinct:
            yield f"{doubled} of {asked} runs are the same as another one and train once"
        for lack, count in Counter(self.findings.lacking.values()).items():
            yield f"{counted(count, 'finished run')} will be evaluated without training: asked for {lack}"
        for lack, count in Counter(self.findings.again.values()).items():
            yield f"{counted(count, 'finished run')} must train again: asked for {lack}"


def _widest(runs: int) -> Callable[[RunSpec], int]:
    """Most lanes of a stack if only its model bounds it and there are so many runs."""
    return lambda spec: 1 if parts.trains_alone(spec.model.name) else runs
