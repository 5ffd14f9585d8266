"""The data of the runs of a sweep: read once, and shared only if several processes train."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
        """The data of a run on the CPU, fitted to its model. Images that do not fit there are streamed."""
        from normbench import models

        size = models.fitted_size(spec, self.cache)
        return _load(spec.data, size, self.cache, _free(spec.engine.device))

    def notes(self, specs: Sequence[RunSpec]) -> Iterator[str]:
        """Which data are streamed, and why, once per data set."""
        from normbench import models
        from normbench.data.streaming import why_streamed

        streamed = {}
        for spec in specs:
            if spec.data.name == "folder":
                size = models.fitted_size(spec, self.cache)
                why = why_streamed(spec.data, size, self.cache, _free(spec.engine.device))
                streamed[spec.data.path, why] = why
        for (path, _), why in streamed.items():
            if why:
                yield f"images of data.path={path} are streamed: {why}"

    def shared(self, spec: RunSpec, emit: Callable[[events.Event], None]) -> Dataset:
        """The same in a form that worker processes share. What is unusual about it is said once."""
        found, note = _share(self.of(spec), self.cache)
        if note and note not in self._said:
            self._said.add(note)
            emit(events.Notice(note))
        return found


@lru_cache(maxsize=8)  # the first answer counts: what is loaded is not free any more
def _free(device: str) -> int | None:
    """Bytes that are free on a GPU; None for a CPU."""
    from normbench.engine.device import find_device
    from normbench.engine.free_memory import free_bytes

    found = find_device(device)
    return None if found.type == "cpu" else free_bytes(found)


@lru_cache(maxsize=4)
def _load(spec: DataSpec, size: int | None, cache: Path, free: int | None) -> Dataset:
    from normbench import data

    return data.load(spec, size=size, cache=cache, free=free)


@lru_cache(maxsize=4)
def _share(dataset: Dataset, cache: Path) -> tuple[Dataset, str]:
    from normbench.data.sharing import share

    return share(dataset, cache)
