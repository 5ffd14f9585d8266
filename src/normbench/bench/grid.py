"""What is measured: models at batch sizes, each as the run of a train command and on its data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from normbench import data, models
from normbench.config.compose import compose, listed
from normbench.config.resolve import resolve
from normbench.data.dataset import Dataset
from normbench.data.shapes import KNOWN, shape_of
from normbench.engine.device import check
from normbench.errors import InputError
from normbench.spec import DataSpec, RunSpec

#: What the options of the command and the measurement itself set.
RESERVED = ("model", "batch", "seed", "steps", "epochs", "total", "engine.device", "engine.lanes")
#: Data by model; every other model has cifar10. Nothing is downloaded for a measurement of speed.
DATA = {"mlp": "digits", "lenet300": "mnist", "lenet5": "mnist"}
#: Images in use: enough that a step does not find its own in a cache, few enough for copies in every process.
IMAGES = 10_000
#: Length of the runs, far beyond what is measured, so that the learning rate stays where it begins.
STEPS = 10**9


@dataclass(frozen=True)
class Grid:
    """A measurement.

    Attributes:
        models, batches: every pair of them is a case.
        lanes:           of the stacks.
        rounds:          how often each contestant has its turn.
        seconds:         how long all turns of a contestant take together.
        words:           of a train command, such as norm=gn, for all cases.
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
        notes:   what is not as asked.
    """

    spec: RunSpec
    dataset: Dataset
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.spec.model.name}, batch {self.spec.batch}"

    def runs(self, lanes: int) -> tuple[RunSpec, ...]:
        """The run with seeds 0, 1, …"""
        return tuple(self.spec.model_copy(update={"seed": seed}) for seed in range(lanes))


def cases(grid: Grid, cache: Path, config_dir: str | None = None) -> list[Case]:
    """All cases of a grid, checked.

    Args:
        cache:      the results' cache folder.
        config_dir: a folder searched for choices after the packaged ones.

    Raises:
        InputError: a run that cannot be trained as asked.
    """
    given = listed(grid.words, config_dir)
    for word in RESERVED:
        if word in given:
            raise InputError(
                f"{word} is not for bench's words: its options set it; got {' '.join(grid.words)}"
            )
    specs = []
    for model in grid.models:
        words = [] if "data" in given else _data(DATA.get(model, "cifar10"))
        for batch in grid.batches:
            spec = _spec(model, batch, [*words, *grid.words], grid.device, config_dir)
            shape = models.fitted(spec, shape_of(spec.data, cache))
            models.check(spec, shape)
            spec.length(shape.train_images)
            specs.append((spec, "data" not in given))
    return [Case(spec, *_load(spec.data, models.fitted_size(spec), cache, free)) for spec, free in specs]


def _data(name: str) -> list[str]:
    known = KNOWN[name]
    size = [f"data.train_size={IMAGES}"] if known.train_images > IMAGES else []
    return [f"data={name}", *size, *([] if name == "digits" else ["data.download=false"])]


def _spec(model: str, batch: int, words: Sequence[str], device: str, config_dir: str | None) -> RunSpec:
    own = [f"model={model}", f"batch={batch}", f"steps={STEPS}", "tracking=none", f"engine.device={device}"]
    configs = compose([*own, *words], config_dir)
    if len(configs) > 1:
        raise InputError(f"bench measures one kind of run at a time; got a sweep: {' '.join(words)}")
    spec = resolve(configs[0]).spec
    check(spec.engine)
    return spec


@lru_cache(maxsize=4)
def _load(
    spec: DataSpec, size: int | None, cache: Path, may_stand_in: bool
) -> tuple[Dataset, tuple[str, ...]]:
    """Data in shared memory; where they are not here and nobody asked for them, made ones of their shape."""
    try:
        return data.load(spec, size=size, cache=cache).share(), ()
    except InputError:
        if not may_stand_in:
            raise
    shape = shape_of(spec)
    made = {
        "name": "synthetic", "root": None, "download": None, "channels": shape.channels, "size": shape.size,
        "classes": shape.classes, "train_size": shape.train_images, "test_size": 1,
    }  # fmt: skip
    note = f"{spec.name} is not here (NORMBENCH_DATA names its folder): made images of its shape instead"
    return data.load(spec.model_copy(update=made), size=size, cache=cache).share(), (note,)
