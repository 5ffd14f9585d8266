"""RunSpec: one resolved run as a frozen, typed value, and the signature that identifies its final state.

Values are in `conf/`. Types and ranges are here and in `groups`. `normbench.config.resolve` makes a RunSpec
from a configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from normbench.digests import AroundSeed, digest
from normbench.errors import InputError
from normbench.groups import (
    Count,
    DataSpec,
    EngineSpec,
    EvalSpec,
    ModelSpec,
    NormSpec,
    OptimSpec,
    Part,
    PlacementSpec,
    ScheduleSpec,
    TrackingSpec,
    WeightSpec,
    neutral_at,
)
from normbench.numbers import MOST
from normbench.paths import get, without

__all__ = [
    "LANE_FIELDS",
    "DataSpec",
    "EngineSpec",
    "EvalSpec",
    "ModelSpec",
    "NormSpec",
    "OptimSpec",
    "Part",
    "PlacementSpec",
    "Resolved",
    "RunSpec",
    "ScheduleSpec",
    "TrackingSpec",
    "WeightSpec",
    "neutral_at",
    "neutral_fields",
    "trainings",
]

#: Fields that say where data and the starting state are stored, and how they are read. They do not change the
#: contents.
_LOCATIONS = ("data.root", "data.path", "data.download", "data.stream", "data.readers", "model.weights")
#: What a seed may be.
SEEDS = range(2**63)
#: Fields that change neither the final state nor the images: evaluation, computation and reports.
OUTSIDE_IDENTITY = ("eval", "engine", "tracking", "keep_weights", "diagnostics", "neutral")


class RunSpec(Part):
    """The complete specification of one run: model, data, training, length and seed."""

    model: ModelSpec
    norm: NormSpec
    weight: WeightSpec
    placement: PlacementSpec
    data: DataSpec
    optim: OptimSpec
    schedule: ScheduleSpec
    eval: EvalSpec
    engine: EngineSpec
    tracking: TrackingSpec
    #: Whether to keep the final state of a finished run; auto: if it is small (see `sweeps.keep_weights`).
    keep_weights: Literal["auto"] | bool = "auto"
    #: Diagnostics to read along the run, see `normbench.diagnostics`.
    diagnostics: Annotated[tuple[str, ...], Field(strict=False)] = ()
    #: Versions of the numbers of the choices, by group. Only versions above 1 are listed.
    numerics: dict[str, int] = Field(default_factory=dict)
    #: Hashes of the sources of the user's own parts that the run uses, by group, see `normbench.parts`.
    plugins: dict[str, str] = Field(default_factory=dict)
    #: Neutral values by path that the chosen methods declare. A field at its neutral value is not hashed.
    neutral: dict[str, Any] = Field(default_factory=dict)
    batch: Count
    workers: Count
    epochs: Count | None
    steps: Count | None
    seed: Annotated[int, Field(ge=SEEDS.start, lt=SEEDS.stop)]

    @property
    def total(self) -> int:
        """Images per optimiser step."""
        return self.batch * self.workers

    @property
    def lr(self) -> float:
        """The learning rate of the run, scaled for its total."""
        ratio = self.total / self.optim.lr_reference
        factor: dict[str, float] = {"linear": ratio, "sqrt": ratio**0.5, "none": 1.0}
        return self.optim.lr * factor[self.optim.lr_scaling]

    def length(self, train_images: int) -> int:
        """Number of optimiser steps of the run. Incomplete last batches are dropped.

        Args:
            train_images: number of images of the training split.

        Raises:
            InputError: the split has fewer images than one step needs.
        """
        per_epoch = train_images // self.total
        if per_epoch == 0:
            raise InputError(
                f"a step takes batch × workers = {self.total} images, but the training split of "
                f"{self.data.name} holds {train_images}; lower batch or workers"
            )
        steps = self.steps if self.steps is not None else (self.epochs or 0) * per_epoch
        if steps > MOST:
            raise InputError(
                f"a run must have at most {MOST:,} steps; {self.epochs} epochs of {per_epoch:,} are more"
            )
        return steps

    def identity(self) -> dict[str, Any]:
        """The fields that change the final state or the images, without fields that are null or neutral."""
        tree = self.model_dump(mode="json", exclude=set(OUTSIDE_IDENTITY))
        tree["precision"] = self.engine.precision
        tree["optim"]["lr"] = self.lr
        neutral = neutral_fields(type(self)) | self.neutral
        at_neutral = [path for path, value in neutral.items() if get(tree, path) == value]
        empty = [name for name in ("numerics", "plugins") if not getattr(self, name)]
        derived = ("optim.lr_scaling", "optim.lr_reference", *empty)
        identity: dict[str, Any] = _without_nulls(without(tree, (*_LOCATIONS, *derived, *at_neutral)))
        return identity

    def tree(self) -> dict[str, Any]:
        """All fields as plain containers. Runs that share all but the seed share the parts; change none."""
        return {**self._seedless.tree, "seed": self.seed}

    @cached_property
    def signature(self) -> str:
        """The hash of the identity, as sixteen hex digits."""
        return self._seedless.identity.digest(self.seed)

    def stack_key(self) -> str:
        """A key that is equal for runs that can train as one stack. They are equal outside LANE_FIELDS."""
        return self._seedless.stack_key

    def training_key(self) -> str:
        """A key that is equal for runs that share one training.

        They differ at most in a momentum that training never reads.
        """
        return self._training_key

    @cached_property
    def _training_key(self) -> str:
        return self._seedless.training.digest(self.seed)

    @cached_property
    def _seedless(self) -> _Seedless:
        return _Seedless(self)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> RunSpec:
        """As pydantic's `model_copy`. The copy computes its own hashes.

        A copy with another seed shares the texts that are hashed.
        """
        update = dict(update or {})
        shared = self._seedless if update.keys() == {"seed"} else None
        copied = super().model_copy(update=update, deep=deep)
        for cached in ("signature", "_training_key", "_seedless"):
            copied.__dict__.pop(cached, None)
        if shared is not None:
            copied.__dict__["_seedless"] = shared
        return copied

    def group(self) -> str:
        """The hash of the identity without the seed. Runs of one group are repetitions of each other."""
        return digest(without(self.identity(), ("seed",)))


class _Seedless:
    """What runs have in common that differ only in the seed. PERF: computed once for all of them.

    Args:
        spec: one of the runs.
    """

    def __init__(self, spec: RunSpec) -> None:
        self._spec = spec

    @cached_property
    def tree(self) -> dict[str, Any]:
        return self._spec.model_dump(mode="json")

    @cached_property
    def identity(self) -> AroundSeed:
        return AroundSeed.of(self._spec.identity())

    @cached_property
    def stack_key(self) -> str:
        return digest(self._settings() | without(self._spec.identity(), LANE_FIELDS))

    @cached_property
    def training(self) -> AroundSeed:
        # with a plateau, validation by running statistics decides about training
        shared = self._spec.norm.banks and self._spec.schedule.name != "plateau"
        bank_fields = ("norm.momentum",) if shared else ()
        return AroundSeed.of(self._settings() | without(self._spec.identity(), bank_fields))

    def _settings(self) -> dict[str, Any]:
        """Settings outside the identity that all runs of a stack share."""
        return self._spec.model_dump(mode="json", include={"eval", "engine", "keep_weights", "diagnostics"})


@cache
def neutral_fields(part: type[BaseModel] = RunSpec) -> dict[str, Any]:
    """The neutral values of the fields that are declared with `neutral_at`, by path."""
    found: dict[str, Any] = {}
    for name, field in part.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Part):
            inner = neutral_fields(field.annotation)
            found |= {f"{name}.{path}": value for path, value in inner.items()}
        elif field.json_schema_extra == {"neutral": True}:
            found[name] = field.default
    return found


class Resolved(NamedTuple):
    """A spec, and the knobs that were set although their choice does not use them, as in
    `norm.momentum of gn`.
    """

    spec: RunSpec
    unused: tuple[str, ...]


#: Fields in which the lanes of one stack may differ.
LANE_FIELDS = (
    "seed", "optim.lr", "optim.weight_decay", "optim.momentum", "norm.momentum", "norm.eps",
    "model.weights_hash",
)  # fmt: skip


def trainings(specs: Sequence[RunSpec]) -> tuple[tuple[RunSpec, ...], ...]:
    """The runs grouped by training. Groups are in the order of their first runs."""
    found: dict[str, list[RunSpec]] = {}
    for spec in specs:
        found.setdefault(spec.training_key(), []).append(spec)
    return tuple(map(tuple, found.values()))


def first_fault(error: ValidationError) -> str:
    """The first fault of a specification that was read: its place and what is wrong there."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _without_nulls(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {k: _without_nulls(v) for k, v in tree.items() if v is not None}
    return tree
