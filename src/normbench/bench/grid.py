"""What is measured: every model at every batch size, as the run of a train command, on its data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from normbench import data, models
from normbench.config.compose import compose, values_by_key
from normbench.config.resolve import resolve
from normbench.data.dataset import Dataset
from normbench.data.shape import KNOWN
from normbench.data.shapes import shape_of
from normbench.data.sharing import share
from normbench.engine.device import check
from normbench.errors import InputError
from normbench.spec import DataSpec, RunSpec

#: Keys that the command's options or the measurement itself set.
RESERVED = ("model", "batch", "seed", "steps", "epochs", "total", "engine.device", "engine.lanes")
#: Data set by model; every other model gets cifar10. A measurement of speed downloads nothing.
DATA = {"mlp": "digits", "lenet300": "mnist", "lenet5": "mnist"}
#: Training images: so many that a cache does not hold them, so few that every process can hold a copy.
IMAGES = 10_000
#: Length of the runs. It exceeds every measurement, so the learning rate stays at its start.
STEPS = 10**9


@dataclass(frozen=True)
class Grid:
    """What to measure.

    Attributes:
        models, batches: every pair of them is a case.
        lanes:           widths of the stacks.
        rounds:          turns of each contestant.
        seconds:         of all turns of a contestant together.
        words:           of a train command, for all cases, such as norm=gn.
        device:          as `engine.device`.
    """

    models: tuple[str, ...]
    batches: tuple[int, ...]
    lanes: tuple[int, ...]
    rounds: int
    seconds: float
    words: tuple[str, ...] = ()
    device: str = "auto"


@dataclass(frozen=True)
class Case:
    """A model at a batch size.

    Attributes:
        spec:    the run with seed 0.
        dataset: on the CPU, in memory that processes share.
        notes:   what differs from what was asked.
    """

    spec: RunSpec
    dataset: Dataset
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.spec.model.name}, batch {self.spec.batch}"

    def runs(self, lanes: int) -> tuple[RunSpec, ...]:
        """The run with seeds 0, 1, …, one per lane."""
        return tuple(self.spec.model_copy(update={"seed": seed}) for seed in range(lanes))


def cases(grid: Grid, cache: Path, config_dir: str | None = None) -> list[Case]:
    """All cases of a grid; each is checked.

    Args:
        cache:      the results' cache folder.
        config_dir: a folder that is searched for choices after the packaged ones.

    Raises:
        InputError: a run that cannot be trained as asked.
    """
    given = values_by_key(grid.words, config_dir)
    for word in RESERVED:
        if word in given:
            raise InputError(
                f"bench takes {word} as an option, not as a word, or sets it itself; "
                f"got {' '.join(grid.words)}"
            )
    specs = []
    for model in grid.models:
        words = [] if "data" in given else _data(DATA.get(model, "cifar10"))
        for batch in grid.batches:
            spec = _spec(model, batch, [*words, *grid.words], grid.device, config_dir)
            shape = models.fitted(spec, shape_of(spec.data, cache))
            models.check(spec, shape)
            spec.length(shape.train_images)
            specs.append((spec, shape.size, "data" not in given))
    return [Case(spec, *_load(spec.data, size, cache, free)) for spec, size, free in specs]


def _data(name: str) -> list[str]:
    known = KNOWN[name]
    size = [f"data.train_size={IMAGES}"] if known.train_images > IMAGES else []
    return [f"data={name}", *size, *([] if name == "digits" else ["data.download=false"])]


def _spec(model: str, batch: int, words: Sequence[str], device: str, config_dir: str | None) -> RunSpec:
    own = [f"model={model}", f"batch={batch}", f"steps={STEPS}", "tracking=none", f"engine.device={device}"]
    configs = compose([*own, *words], config_dir)
    if len(configs) > 1:
        raise InputError(f"bench takes no sweep, one value per key; got {' '.join(words)}")
    spec = resolve(configs[0]).spec
    check(spec.engine)
    return spec


@lru_cache(maxsize=4)
def _load(
    spec: DataSpec, size: int | None, cache: Path, may_stand_in: bool
) -> tuple[Dataset, tuple[str, ...]]:
    """Data in shared memory, and notes. Random images replace default data that are missing."""
    try:
        shared, note = share(data.load(spec, size=size, cache=cache), cache)
        return shared, tuple(filter(None, [note]))
    except InputError:
        if not may_stand_in:
            raise
    shape = shape_of(spec)
    made = {
        "name": "synthetic", "root": None, "download": None, "channels": shape.channels, "size": shape.size,
        "classes": shape.classes, "train_size": shape.train_images, "test_size": 1,
    }  # fmt: skip
    note = f"{spec.name} is not here (NORMBENCH_DATA names its folder): random images of its shape are used"
    shared, other = share(data.load(spec.model_copy(update=made), size=size, cache=cache), cache)
    return shared, tuple(filter(None, [note, other]))
