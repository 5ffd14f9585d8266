"""Configurations of a sweep that differ only in the seed, so that they are checked and resolved once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from normbench.config.resolve import resolve
from normbench.errors import InputError
from normbench.spec import SEEDS, Resolved


class SeedGroups:
    """The configurations of a sweep, and for each one the first that has the same values but for the seed.

    Values are compared by identity, because `compose` shares what is equal. Equal values that are not shared
    only cost time.

    firsts: the configurations without repetitions, in order.

    Args:
        configs: the configurations. They must not be changed while this is used.
    """

    def __init__(self, configs: Sequence[Mapping[str, Any]]) -> None:
        self._configs = [dict(config) for config in configs]  # it holds the values, so ids stay unique
        groups: dict[tuple[tuple[str, int], ...], int] = {}
        self._group = [groups.setdefault(_key(config), len(groups)) for config in self._configs]
        first = dict(zip(reversed(self._group), reversed(self._configs), strict=True))
        self.firsts = [first[number] for number in range(len(groups))]

    def resolved(self, elsewhere: set[str]) -> Iterator[Resolved | InputError]:
        """For each configuration, in order: `resolve(config, elsewhere)`, or why it is impossible."""
        known: dict[int, Resolved] = {}
        for config, group in zip(self._configs, self._group, strict=True):
            seed, like = config.get("seed"), known.get(group)
            if like is not None and type(seed) is int and seed in SEEDS:
                yield like._replace(spec=like.spec.model_copy(update={"seed": seed}))
                continue
            try:
                known[group] = resolve(config, elsewhere)
            except InputError as error:
                yield error
            else:
                yield known[group]


def _key(config: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    return tuple((key, id(value)) for key, value in config.items() if key != "seed")
