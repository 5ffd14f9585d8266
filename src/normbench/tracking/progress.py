"""The progress of a sweep, counted from its events. It has no clock and prints nothing.

Progress is counted in run-steps: one run-step is one optimiser step of one run. A run that ended early has no
steps left to train, so all its steps count as done.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from normbench.events import (
    Event,
    RunEnded,
    RunEndedElsewhere,
    StackLogged,
    StackPaused,
    StackSplit,
    StackStarted,
    SweepStarted,
)
from normbench.labels import varying
from normbench.record import COMPLETE, Record

WINDOW_S = 60.0  # the rate is measured over the last minute, because stacks differ in speed
SAMPLE_S = 1.0
NOTHING = SweepStarted(runs=0, finished=0, stacks=0, steps=0)


@dataclass
class Group:
    """The runs of one stack that are repetitions of each other: they differ in the seed alone."""

    spec: dict[str, Any]  # of the first run
    signatures: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    test_errors: list[float] = field(default_factory=list)
    train_losses: list[float] = field(default_factory=list)  # of the last point of the curve, finite ones

    @property
    def train_loss(self) -> float | None:
        """Mean over the runs with a finite loss; None if no run has one."""
        return _mean(self.train_losses)

    @property
    def test_error(self) -> float | None:
        """Mean over the ended runs that have a test error, as a fraction; None if no run has one."""
        return _mean(self.test_errors)


@dataclass
class Stack:
    """A stack that trains, or that has just ended."""

    groups: dict[str, Group]
    group_of: dict[str, Group]  # run → its group
    steps: int
    step: int
    started: float  # s, on the caller's clock
    open: set[str]  # signatures of the runs that have not ended

    @property
    def specs(self) -> list[dict[str, Any]]:
        """One specification per group."""
        return [group.spec for group in self.groups.values()]

    @property
    def runs(self) -> int:
        """Runs of the stack, ended ones included."""
        return len(self.group_of)


class Progress:
    """The state that a view shows: `apply` every event to it, in order."""

    def __init__(self, sweep: SweepStarted = NOTHING) -> None:
        self.sweep = sweep
        self.stacks: list[Stack] = []
        self.varying: tuple[str, ...] = ()  # fields in which the runs of the sweep differ
        self.statuses: Counter[str] = Counter()  # of the runs that have ended
        self.elsewhere = 0  # runs of the sweep that other processes have trained meanwhile
        self.started = 0.0
        self._stack_of_run: dict[str, Stack] = {}  # open runs only
        self._ended_steps = 0
        self._specs: dict[str, dict[str, Any]] = {}  # group → the specification of its first run
        self._trained = 0  # run-steps trained by this command; resumed steps are done but not trained now
        self._samples: deque[tuple[float, int]] = deque()

    @property
    def to_train(self) -> int:
        """Runs that were not finished before."""
        return self.sweep.runs - self.sweep.finished - self.sweep.evaluations

    @property
    def ended(self) -> int:
        """Runs that have ended, with any status."""
        return self.statuses.total()

    @property
    def done(self) -> int:
        """Run-steps that need no more training."""
        return self._ended_steps + sum(len(stack.open) * stack.step for stack in self.stacks)

    def rate(self, now: float) -> float:
        """Run-steps per second over the last minute; 0 before the first two points."""
        if not self._samples:
            return 0.0
        then, trained = self._samples[0]
        return (self._trained - trained) / (now - then) if now > then else 0.0

    def left_s(self, now: float) -> float | None:
        """Seconds to the end at the present rate; None if there is no rate yet."""
        rate = self.rate(now)
        return (self.sweep.steps - self.done) / rate if rate else None

    def apply(self, event: Event, now: float) -> Stack | None:
        """Count an event. Returns the stack that the event ended, or None."""
        match event:
            case SweepStarted():
                self.sweep, self.started = event, now
                self.varying = event.varying
            case StackStarted():
                self._start(event, now)
            case StackLogged():
                self._log(event, now)
            case StackSplit(signatures=signatures) | StackPaused(signatures=signatures):
                self._forget(signatures)
            case RunEndedElsewhere(record=record):
                self.elsewhere += 1
                self._ended_steps += int(record.provenance.get("steps") or 0)
            case RunEnded(record=record):
                return self._end(record, now)
        return None

    def stack_of(self, signatures: tuple[str, ...]) -> Stack | None:
        """The stack that trains any of these runs; None if no stack does."""
        return next((self._stack_of_run[s] for s in signatures if s in self._stack_of_run), None)

    def _start(self, event: StackStarted, now: float) -> None:
        stack = Stack({}, {}, event.steps, event.first_step, now, set(event.signatures))
        for signature, spec, name in zip(event.signatures, event.specs, event.groups, strict=True):
            group = stack.groups.setdefault(name, Group(spec))
            group.signatures.append(signature)
            group.seeds.append(spec["seed"])
            stack.group_of[signature] = group
        self._find_varying(event)
        self.stacks.append(stack)
        self._stack_of_run.update(dict.fromkeys(event.signatures, stack))
        self._sample(now)

    def _find_varying(self, event: StackStarted) -> None:
        """If the sweep did not say what differs, compare the groups that have started so far."""
        new = dict(zip(event.groups, event.specs, strict=True))
        if not self.sweep.varying and not new.keys() <= self._specs.keys():
            self._specs = new | self._specs
            self.varying = tuple(varying(list(self._specs.values())))

    def _log(self, event: StackLogged, now: float) -> None:
        stack = self.stack_of(event.signatures)
        if stack is None:
            return
        self._trained += len(stack.open) * (event.step - stack.step)
        stack.step = event.step
        losses = {s: p.get("train_loss") for s, p in zip(event.signatures, event.points, strict=True)}
        for group in stack.groups.values():
            group.train_losses = [x for s in group.signatures if (x := losses.get(s)) is not None]
        self._sample(now)

    def _sample(self, now: float) -> None:
        if not self._samples or now - self._samples[-1][0] >= SAMPLE_S:
            self._samples.append((now, self._trained))
        while len(self._samples) > 2 and now - self._samples[1][0] > WINDOW_S:
            self._samples.popleft()

    def _forget(self, signatures: tuple[str, ...]) -> None:
        stack = self.stack_of(signatures)
        if stack is not None:
            self._close(stack)

    def _end(self, record: Record, now: float) -> Stack | None:
        self.statuses[record.status] += 1
        stack = self._stack_of_run.pop(record.signature, None)
        if stack is None:
            return None
        stack.open.discard(record.signature)
        group = stack.group_of[record.signature]
        group.statuses[record.status] += 1
        error = record.metrics.get("test_error")
        if error is not None:
            group.test_errors.append(error)
        self._ended_steps += stack.steps
        if record.status == COMPLETE:
            self._trained += stack.steps - stack.step  # the curve may have no point at the last step
            self._sample(now)
        if stack.open:
            return None
        self._close(stack)
        return stack

    def _close(self, stack: Stack) -> None:
        self.stacks.remove(stack)
        for signature in stack.open:
            del self._stack_of_run[signature]


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
