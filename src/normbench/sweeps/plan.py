"""Planning: which runs share a stack, for training and for evaluation. Pure, and without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from normbench.phrases import counted
from normbench.spec import RunSpec, trainings

#: Run → most lanes that a stack of such runs may have.
Capacity = Callable[[RunSpec], int]
#: How often a lone run is tried. Its error may pass, such as too little memory beside other stacks.
ATTEMPTS = 2


@dataclass(frozen=True)
class Pack:
    """The runs of one stack, in lane order. Runs that share a training are next to each other.

    attempt: above 1 if the pack is a lone run that has failed before.
    """

    specs: tuple[RunSpec, ...]
    attempt: int = 1

    @property
    def trainings(self) -> tuple[tuple[RunSpec, ...], ...]:
        """The runs grouped by training. A training is one lane, with one bank of statistics per run."""
        return trainings(self.specs)

    @property
    def signatures(self) -> tuple[str, ...]:
        return tuple(spec.signature for spec in self.specs)

    def halves(self) -> tuple[Pack, Pack]:
        """Two packs with half of the lanes each. If there is one lane, each gets half of its runs."""
        units = self.trainings if len(self.trainings) > 1 else tuple((spec,) for spec in self.specs)
        middle = (len(units) + 1) // 2
        return _pack(units[:middle]), _pack(units[middle:])

    def after_failure(self) -> tuple[Pack, ...]:
        """The packs to try after this one failed: its halves, or a lone run once more; none after that."""
        if len(self.specs) > 1:
            return self.halves()
        return (replace(self, attempt=self.attempt + 1),) if self.attempt < ATTEMPTS else ()


def _pack(units: Sequence[tuple[RunSpec, ...]]) -> Pack:
    return Pack(tuple(spec for unit in units for spec in unit))


@dataclass(frozen=True)
class Plan:
    """The work of one command.

    Attributes:
        runs:        number of distinct runs of the command.
        finished:    number of runs that are finished, with all their metrics.
        packs:       the runs to train, each exactly once.
        evaluations: the ended runs to evaluate without training.
        notes:       lines for the user: duplicate runs, settings that were dropped, runs that train again.
    """

    runs: int
    finished: int
    packs: tuple[Pack, ...]
    evaluations: tuple[Pack, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def to_train(self) -> int:
        """Number of runs to train."""
        return sum(len(pack.specs) for pack in self.packs)

    @property
    def to_evaluate(self) -> int:
        """Number of runs to evaluate."""
        return sum(len(pack.specs) for pack in self.evaluations)

    @property
    def trainings(self) -> int:
        """Number of trainings. Runs that differ only in their bank share one."""
        return sum(len(pack.trainings) for pack in self.packs)

    def headline(self) -> str:
        """`24 runs: 6 finished before, 18 to train in 3 stacks`, or `… 18 to train → 3 trainings → 1 stack`
        if runs share trainings.
        """
        parts = []
        if self.finished:
            parts.append(f"{self.finished} finished before")
        if self.to_evaluate:
            parts.append(f"{self.to_evaluate} to evaluate without training")
        if self.to_train or not self.to_evaluate:
            stacks = counted(len(self.packs), "stack")
            how = f" in {stacks}" if self.packs else ""
            if self.trainings < self.to_train:
                how = f" → {counted(self.trainings, 'training')} → {stacks}"
            parts.append(f"{self.to_train} to train{how}")
        return f"{counted(self.runs, 'run')}: {', '.join(parts)}"


def stacks(
    specs: Sequence[RunSpec],
    *,
    capacity: Capacity,
    processes: int = 1,
    cost: Callable[[Pack], float] = lambda pack: len(pack.trainings),
) -> tuple[Pack, ...]:
    """Put runs into stacks. The longest stack is first, so that all processes end at about the same time.

    Args:
        specs:     the runs, each once.
        capacity:  most lanes that a stack of such runs may have.
        processes: number of worker processes. The longest stacks are halved until every process has one.
        cost:      duration of a stack, in any unit. The default is its number of lanes.
    """
    groups: dict[str, list[RunSpec]] = {}
    for spec in specs:
        groups.setdefault(spec.stack_key(), []).append(spec)
    packs = [pack for runs in groups.values() for pack in _split(runs, capacity(runs[0]))]
    while len(packs) < processes and (divisible := [pack for pack in packs if len(pack.trainings) > 1]):
        longest = max(divisible, key=cost)
        at = packs.index(longest)
        packs[at : at + 1] = longest.halves()
    return tuple(sorted(packs, key=cost, reverse=True)) if len(packs) > 1 else tuple(packs)


def _split(specs: list[RunSpec], most: int) -> list[Pack]:
    """As few packs of at most `most` lanes as possible, nearly equal in size. Equal lanes are neighbours."""
    lanes = trainings(sorted(specs, key=lambda s: (s.lr, s.optim.weight_decay, s.optim.momentum or 0.0)))
    parts = -(-len(lanes) // most)
    base, longer = divmod(len(lanes), parts)
    packs, start = [], 0
    for part in range(parts):
        size = base + (part < longer)
        packs.append(_pack(lanes[start : start + size]))
        start += size
    return packs
