"""The words of jobs, each parsed once. Most jobs of a sweep share most of their words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from math import isfinite
from typing import NamedTuple

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, ValueType

from normbench.config.choices import GROUPS
from normbench.config.grammar import as_sweep
from normbench.config.hydra_errors import explained
from normbench.config.plain_values import sets_plain_value
from normbench.errors import InputError


class JobWord(NamedTuple):
    """A word of a job.

    choice: whether it selects a group's choice or sets a key of Hydra, not a value.
    plain:  whether it sets a plain value, see `sets_plain_value`.
    part:   its key before the first dot.
    """

    override: Override
    choice: bool
    plain: bool
    part: str

    def check(self) -> None:
        """Refuse norm=[bn,gn], of which Hydra would merge the files.

        Raises:
            InputError: the word lists several choices of one group.
        """
        key = self.override.key_or_group
        if self.choice and key in GROUPS and isinstance(value := self.override.value(), list):
            raise InputError(f"a run has one {key}; got {self.override.input_line}; {as_sweep(key, value)}")


class JobWords:
    """Reads the words of the jobs of one sweep.

    Args:
        loader: Hydra's configuration loader. It knows the groups.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self._parser = OverridesParser.create(config_loader=loader)
        self._listed: dict[str, Override] = {}
        # PERF: Hydra's get_group_options takes 3 ms per key, because it copies its sources
        self._is_group = cache(lambda key: any(source.is_group(key) for source in loader.get_sources()))
        self.read = cache(self._read)

    def parse(self, words: Iterable[str]) -> list[Override]:
        """The words as overrides, which may list values.

        Raises:
            OverrideParseException: a word cannot be read.
        """
        return self._parser.parse_overrides(list(words))

    def note_numbers(self, overrides: Iterable[Override]) -> None:
        """Know the numbers that overrides list, so that `read` need not parse a word for each."""
        for override in overrides:
            self._listed.update(listed_numbers(override))

    def choices(self, words: Iterable[str]) -> tuple[str, ...]:
        """The words that select choices or set keys of Hydra."""
        return tuple(word for word in words if self.read(word).choice)

    def _read(self, word: str) -> JobWord:
        override = self._listed.get(word)
        if override is None:
            with explained():
                override = self._parser.parse_override(word)
        part = override.key_or_group.partition(".")[0]
        return JobWord(override, self._is_choice(override), sets_plain_value(override), part)

    def _is_choice(self, override: Override) -> bool:
        """Whether an override selects a group's choice or sets a key of Hydra, not a value."""
        if override.package is not None or override.is_hydra_override():
            return True
        return self._is_group(override.key_or_group) and not isinstance(override.value(), dict)


def listed_numbers(override: Override) -> Iterator[tuple[str, Override]]:
    """The numbers that a word lists, each as a word of its own with the override that the parser makes of it.

    seed=range(2) gives seed=0 and seed=1. PERF: the parser takes 0.2 ms per word.
    """
    if not (override.is_range_sweep() or isinstance(override.value(), ChoiceSweep)):
        return
    key = override.get_key_element()
    for value in override.sweep_iterator():
        if type(value) is int or (type(value) is float and isfinite(value)):
            word = f"{key}={value}"
            yield (
                word,
                replace(
                    override, value_type=ValueType.ELEMENT, _value=value, input_line=word, config_loader=None
                ),
            )
