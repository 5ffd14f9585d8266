"""Planning: which runs are missing, and which of them train together. Pure, and without torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from normbench.spec import Resolved, RunSpec, trainings

#: The most lanes that a stack of such runs may have.
Capacity = Callable[[RunSpec], int]


@dataclass(frozen=True)
class Pack:
    """Runs that train as one stack, in lane order; those of one training stand side by side."""

    specs: tuple[RunSpec, ...]

    @property
    def trainings(self) -> tuple[tuple[RunSpec, ...], ...]:
        """The runs by training: one lane each, with a bank of statistics for every run."""
        return trainings(self.specs)

    @property
    def signatures(self) -> tuple[str, ...]:
        return tuple(spec.signature for spec in self.specs)

    def halves(self) -> tuple[Pack, Pack]:
        """Two packs of about half the lanes each, for a stack that was too much; of a lone lane, half its
        runs.
        """
        units = self.trainings if len(self.trainings) > 1 else tuple((spec,) for spec in self.specs)
        middle = (len(units) + 1) // 2
        return _pack(units[:middle]), _pack(units[middle:])


def _pack(units: Sequence[tuple[RunSpec, ...]]) -> Pack:
    return Pack(tuple(spec for unit in units for spec in unit))


@dataclass(frozen=True)
class Plan:
    """What a sweep comes to.

    asked:    runs as asked for, duplicates included, in order.
    finished: signatures that have a record already.
    packs:    the missing runs, each exactly once.
    unused:   how many of the asked runs set a knob that their choice does not have, by knob.
    """

    asked: tuple[RunSpec, ...]
    finished: frozenset[str]
    packs: tuple[Pack, ...]
    unused: dict[str, int]

    @property
    def distinct(self) -> int:
        return len({spec.signature for spec in self.asked})

    @property
    def missing(self) -> int:
        """Runs to train."""
        return sum(len(pack.specs) for pack in self.packs)

    @property
    def trainings(self) -> int:
        """Trainings that they come to: runs that differ in banks alone share one."""
        return sum(len(pack.trainings) for pack in self.packs)

    def notes(self) -> list[str]:
        """What a user should be told about runs that became one or were left out."""
        lines = [
            f"{knob} has no effect: dropped in {count} of the runs" for knob, count in self.unused.items()
        ]
        if doubled := len(self.asked) - self.distinct:
            lines.append(f"{doubled} of {len(self.asked)} runs are the same as another one and train once")
        return lines

    def headline(self) -> str:
        """`24 runs: 6 finished before, 18 to train in 3 stacks`, or `… 18 → 3 trainings → 1 stack` where runs
        share trainings.
        """
        finished = f"{len(self.finished)} finished before, " if self.finished else ""
        stacks = _count(len(self.packs), "stack")
        how = f" in {stacks}" if self.packs else ""
        if self.trainings < self.missing:
            how = f" → {_count(self.trainings, 'training')} → {stacks}"
        return f"{_count(self.distinct, 'run')}: {finished}{self.missing} to train{how}"


def make_plan(
    resolved: Sequence[Resolved], finished: Collection[str], *, capacity: Capacity, processes: int = 1
) -> Plan:
    """Plan a sweep.

    Args:
        resolved:  the runs asked for.
        finished:  signatures that need no training.
        capacity:  the most lanes a stack of such runs may have.
        processes: worker processes to keep busy: stacks are split evenly until there is one for each.
    """
    missing = {r.spec.signature: r.spec for r in resolved if r.spec.signature not in finished}
    groups: dict[str, list[RunSpec]] = {}
    for spec in missing.values():
        groups.setdefault(spec.stack_key(), []).append(spec)
    packs = [pack for specs in groups.values() for pack in _split(specs, capacity(specs[0]))]
    while packs and len(packs) < processes:
        largest = max(packs, key=lambda pack: len(pack.trainings))
        if len(largest.trainings) == 1:
            break
        at = packs.index(largest)
        packs[at : at + 1] = largest.halves()
    # the long ones first, so that the processes come to their ends together
    packs.sort(key=_work, reverse=True)
    return Plan(
        asked=tuple(r.spec for r in resolved),
        finished=frozenset(r.spec.signature for r in resolved if r.spec.signature in finished),
        packs=tuple(packs),
        unused=dict(Counter(knob for r in resolved for knob in r.unused)),
    )


def _split(specs: list[RunSpec], most: int) -> list[Pack]:
    """As few packs as `most` lanes allow, of nearly equal sizes; lanes with equal settings side by side."""
    lanes = trainings(sorted(specs, key=lambda s: (s.lr, s.optim.weight_decay, s.optim.momentum or 0.0)))
    parts = -(-len(lanes) // most)
    base, longer = divmod(len(lanes), parts)
    packs, start = [], 0
    for part in range(parts):
        size = base + (part < longer)
        packs.append(_pack(lanes[start : start + size]))
        start += size
    return packs


def _work(pack: Pack) -> float:
    """How long packs take, one beside another: steps at a fixed price and a price per image."""
    spec = pack.specs[0]
    steps = spec.steps or (spec.epochs or 0) * 50_000 / spec.total
    return len(pack.trainings) * steps * (16 + spec.total)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
