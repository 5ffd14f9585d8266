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


def sized(count: float) -> str:
    """A number of bytes with its unit.

    >>> sized(812), sized(116152), sized(3 * 2**30)
    ('812 B', '113 KiB', '3.0 GiB')
    """
    if count < 1024:
        return f"{count:.0f} B"
    sizes = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
    unit, size = next((pair for pair in sizes.items() if count < 1000 * pair[1]), ("TiB", 2**40))
    return f"{count / size:.0f} {unit}" if count >= 10 * size else f"{count / size:.1f} {unit}"


def lasting(seconds: float) -> str:
    """A duration in its largest whole unit.

    >>> lasting(42), lasting(200), lasting(7300), lasting(200_000)
    ('42 s', '3 min', '2 h', '2 d')
    """
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
