"""The data of the runs of a sweep: read once, and shared only if several processes train."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from normbench import events
from normbench.spec import DataSpec, RunSpec

if TYPE_CHECKING:
    from normbench.data.dataset import Dataset


class SweepData:
    """Gives the data of runs.

    Args:
        cache: the folder of decoded images.
    """

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self._said: set[str] = set()

    def of(self, spec: RunSpec) -> Dataset:
        """The data of a run on the CPU, fitted to its model."""
        from normbench import models

        return _load(spec.data, models.fitted_size(spec, self.cache), self.cache)

    def shared(self, spec: RunSpec, emit: Callable[[events.Event], None]) -> Dataset:
        """The same in a form that worker processes share. What is unusual about it is said once."""
        found, note = _share(self.of(spec), self.cache)
        if note and note not in self._said:
            self._said.add(note)
            emit(events.Notice(note))
        return found


@lru_cache(maxsize=4)
def _load(spec: DataSpec, size: int | None, cache: Path) -> Dataset:
    from normbench import data

    return data.load(spec, size=size, cache=cache)


@lru_cache(maxsize=4)
def _share(dataset: Dataset, cache: Path) -> tuple[Dataset, str]:
    from normbench.data.sharing import share

    return share(dataset, cache)
