"""Short phrases that several parts of normbench say alike."""

from __future__ import annotations

from collections.abc import Iterable


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural unless the number is 1.

    >>> counted(1, "run"), counted(3, "stack"), counted(2, "process")
    ('1 run', '3 stacks', '2 processes')
    """
    if number == 1:
        return f"1 {noun}"
    ending = "es" if noun.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{number:,} {noun}{ending}"


def listed_seeds(seeds: Iterable[int]) -> str:
    """Seeds in a few words.

    >>> listed_seeds([3]), listed_seeds([2, 0, 1]), listed_seeds([0, 7])
    ('seed 3', 'seeds 0 to 2', 'seeds 0, 7')
    """
    ordered = sorted(set(seeds))
    first, last = ordered[0], ordered[-1]
    if len(ordered) == 1:
        return f"seed {first}"
    if len(ordered) > 2 and ordered == list(range(first, last + 1)):
        return f"seeds {first} to {last}"
    return f"seeds {', '.join(map(str, ordered))}"
