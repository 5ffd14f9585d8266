"""RunSpec: one resolved run as a frozen, typed value, and the signature that identifies its final state.

Values live in `conf/`, types and ranges here. `normbench.config.resolve` makes a RunSpec of a configuration.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, Field

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

#: Fields of the data that say where it lies, not what it is.
_WHEREABOUTS = ("data.root", "data.path", "data.download")
#: Fields that change neither the final state nor the images: how a run is evaluated, computed and reported.
OUTSIDE_IDENTITY = ("eval", "engine", "tracking", "keep_weights", "neutral")


class RunSpec(Part):
    """One run, complete: what is trained, on what, how, for how long, from which seed."""

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
    #: Keep the final state of a finished run; auto: if it is small (see `normbench.store`).
    keep_weights: Literal["auto"] | bool = "auto"
    #: Version of the numbers that a choice makes, by group, for versions above 1.
    numerics: dict[str, int] = Field(default_factory=dict)
    #: Values at which further fields leave the signature, by path, as the chosen methods declare them.
    neutral: dict[str, Any] = Field(default_factory=dict)
    batch: Count
    workers: Count
    epochs: Count | None
    steps: Count | None
    seed: Annotated[int, Field(ge=0, lt=2**63)]

    @property
    def total(self) -> int:
        """Images per optimiser step."""
        return self.batch * self.workers

    @property
    def lr(self) -> float:
        """The learning rate in force at this total."""
        ratio = self.total / self.optim.lr_reference
        factor: dict[str, float] = {"linear": ratio, "sqrt": ratio**0.5, "none": 1.0}
        return self.optim.lr * factor[self.optim.lr_scaling]

    def length(self, train_images: int) -> int:
        """Optimiser steps of the run on a training split of that size; incomplete last batches are dropped.

        Raises:
            InputError: the split holds less than one step's images.
        """
        per_epoch = train_images // self.total
        if per_epoch == 0:
            raise InputError(
                f"a step takes batch × workers = {self.total} images, but the training split of "
                f"{self.data.name} holds {train_images}; lower batch or workers"
            )
        return self.steps if self.steps is not None else (self.epochs or 0) * per_epoch

    def identity(self) -> dict[str, Any]:
        """Every field that changes the final state or the images, and no other; unset fields are left out."""
        tree = self.model_dump(mode="json", exclude=set(OUTSIDE_IDENTITY))
        tree["precision"] = self.engine.precision
        tree["optim"]["lr"] = self.lr
        neutral = neutral_fields(type(self)) | self.neutral
        at_neutral = [path for path, value in neutral.items() if get(tree, path) == value]
        derived = ("optim.lr_scaling", "optim.lr_reference", *(() if self.numerics else ("numerics",)))
        identity: dict[str, Any] = _without_nulls(without(tree, (*_WHEREABOUTS, *derived, *at_neutral)))
        return identity

    @cached_property
    def signature(self) -> str:
        """Sixteen hex digits: the hash of the identity."""
        return _digest(self.identity())

    def stack_key(self) -> str:
        """Runs with one key can train as one stack: they are equal outside LANE_FIELDS."""
        return self._stack_key

    def training_key(self) -> str:
        """Runs with one key are one training: they differ at most in a momentum that training never reads."""
        return self._training_key

    @cached_property
    def _stack_key(self) -> str:
        return _digest(self._alike() | without(self.identity(), LANE_FIELDS))

    @cached_property
    def _training_key(self) -> str:
        apart = ("norm.momentum",) if self.norm.banks else ()
        return _digest(self._alike() | without(self.identity(), apart))

    def _alike(self) -> dict[str, Any]:
        """What is no part of the identity and yet one for all runs of a stack."""
        return self.model_dump(mode="json", include={"eval", "engine", "keep_weights"})

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> RunSpec:
        """As pydantic's; the copy does not remember the hashes of this one."""
        copied = super().model_copy(update=update, deep=deep)
        for remembered in ("signature", "_stack_key", "_training_key"):
            copied.__dict__.pop(remembered, None)
        return copied

    def group(self) -> str:
        """The identity without the seed: runs of one group are repetitions of each other."""
        return _digest(without(self.identity(), ("seed",)))


@cache
def neutral_fields(part: type[BaseModel] = RunSpec) -> dict[str, Any]:
    """Fields declared with `neutral_at`, by path, with the values at which they leave the signature."""
    found: dict[str, Any] = {}
    for name, field in part.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Part):
            inner = neutral_fields(field.annotation)
            found |= {f"{name}.{path}": value for path, value in inner.items()}
        elif field.json_schema_extra == {"neutral": True}:
            found[name] = field.default
    return found


class Resolved(NamedTuple):
    """A spec and the knobs that were set but are not used by the choice they were set on, such as
    `norm.momentum of gn`.
    """

    spec: RunSpec
    unused: tuple[str, ...]


#: Fields in which the lanes of one stack may differ.
LANE_FIELDS = (
    "seed", "optim.lr", "optim.weight_decay", "optim.momentum", "norm.momentum", "norm.eps",
)  # fmt: skip


def trainings(specs: Sequence[RunSpec]) -> tuple[tuple[RunSpec, ...], ...]:
    """Runs by training, in the order of their first ones."""
    found: dict[str, list[RunSpec]] = {}
    for spec in specs:
        found.setdefault(spec.training_key(), []).append(spec)
    return tuple(map(tuple, found.values()))


def _without_nulls(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {k: _without_nulls(v) for k, v in tree.items() if v is not None}
    return tree


def _digest(tree: dict[str, Any]) -> str:
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
