"""Seeds in stages: how many seeds every cell has at each look at the claims.

The number of looks is fixed before the first one, because each has an equal part of the level.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import product

from normbench.papers.description import Scale
from normbench.papers.grids import Extra, grids
from normbench.papers.places import text_of

#: The seeds of every cell, by its texts in the order of the keys.
Asked = Mapping[tuple[str, ...], Sequence[int]]


class SeedPlan:
    """The looks at the claims of a table.

    Args:
        first: the seeds of every cell at the first look.
        most:  the most seeds of a cell; None: there is one look.
    """

    def __init__(self, first: Asked, most: int | None = None) -> None:
        self._sizes = {cell: sizes(len(seeds), most or 0) for cell, seeds in first.items()}
        self.looks = max((len(each) for each in self._sizes.values()), default=1)
        self.asked: list[dict[tuple[str, ...], list[int]]] = [{c: list(s) for c, s in first.items()}]

    def notes(self) -> list[str]:
        """A line on the looks, if there may be several."""
        if self.looks == 1:
            return []
        counts = sorted({len(seeds) for stage in self.asked for seeds in stage.values()})
        return [
            f"Seeds were added until claims were decided: look {len(self.asked)} of at most {self.looks}; "
            f"{' or '.join(map(str, counts))} seeds per cell; each look has 1/{self.looks} of the level."
        ]

    @property
    def ended(self) -> bool:
        """Whether the last look has its seeds."""
        return len(self.asked) == self.looks

    def extend(self, cells: Collection[tuple[str, ...]]) -> dict[tuple[str, ...], list[int]]:
        """Give some cells the seeds of the next look; return the new seeds of each.

        A cell that an earlier look left out gets the seeds of this look too, so that pairs have equal seeds.
        """
        look, last = len(self.asked), self.asked[-1]
        reached = dict(last)
        for cell in cells:
            if cell in last:
                size = self._sizes[cell]
                reached[cell] = extended(self.asked[0][cell], size[min(look, len(size) - 1)])
        self.asked.append(reached)
        fresh = {cell: [seed for seed in reached[cell] if seed not in last[cell]] for cell in reached}
        return {cell: seeds for cell, seeds in fresh.items() if seeds}


def asked_seeds(scale: Scale, extra: Extra | None = None, absent: Collection[str] = ()) -> Asked:
    """The seeds that the grids ask for in every cell. A grid that names none has seed 0."""
    found: dict[tuple[str, ...], dict[int, None]] = {}
    for grid in grids(scale, extra, absent):
        seeds = [int(word) for word in grid.get("seed", ("0",))]
        for texts in product(*([text_of(word) for word in grid[key]] for key in scale.keys)):
            found.setdefault(texts, {}).update(dict.fromkeys(seeds))
    return {cell: list(seeds) for cell, seeds in found.items()}


def sizes(first: int, most: int) -> list[int]:
    """Seeds per cell at every look: those of the file, then twice as many, until there are `most`.

    >>> sizes(5, 30), sizes(3, 3), sizes(8, 4)
    ([5, 10, 20, 30], [3], [8])
    """
    found = [first]
    while 0 < found[-1] < most:
        found.append(min(2 * found[-1], most))
    return found


def extended(seeds: Sequence[int], count: int) -> list[int]:
    """The first `count` seeds: those given, then the whole numbers after the largest.

    >>> extended([0, 7], 4), extended([0, 1, 2], 2)
    ([0, 7, 8, 9], [0, 1])
    """
    after = max(seeds) + 1
    return [*seeds, *range(after, after + max(count - len(seeds), 0))][:count]
