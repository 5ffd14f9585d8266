"""RunSpec: one resolved run as a frozen, typed value, and the signature that identifies its result.

Values live in `conf/`, types and ranges here; `normbench.config.resolve` makes a RunSpec of a configuration.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from normbench.errors import InputError

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Part(BaseModel):
    """A group of the specification: immutable, no coercion, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ModelSpec(Part):
    name: str
    activation: Literal["relu", "sigmoid", "tanh"]
    hidden: Annotated[tuple[Count, ...], Field(min_length=1, strict=False)] | None
    width: Count | None
    pool: Literal["max", "avg"] | None
    stem: Literal["cifar", "imagenet"] | None
    shortcut: Literal["pad", "conv"] | None
    dropout: Annotated[float, Field(ge=0, lt=1)]
    zero_last: bool | None
    bias: Literal["auto"] | bool
    branch: Literal["plain", "skipinit", "fixup"]
    init: Literal["he", "lsuv"]


class NormSpec(Part):
    name: str
    momentum: float | str | None
    eps: Positive | None
    affine: bool | Literal["weight", "bias"] | None
    args: dict[str, Any]


class WeightSpec(Part):
    name: str
    eps: Positive | None


class PlacementSpec(Part):
    name: Literal[
        "conv_norm_act", "conv_act_norm", "norm_act_conv", "after_add", "act_before_add", "act_only_preact"
    ]
    sites: str | Annotated[tuple[str, ...], Field(min_length=1, strict=False)]


class DataSpec(Part):
    name: str
    root: str | None
    path: str | None
    fingerprint: str | None = None
    classes: Annotated[int, Field(ge=2)] | None
    size: Literal["auto"] | Count | None
    channels: Literal["auto"] | Literal[1, 3] | None
    train_size: Literal["all"] | Count
    test_size: Literal["all"] | Count
    flip: bool
    crop: Annotated[int, Field(ge=0)]
    download: bool | None


class OptimSpec(Part):
    name: str
    lr: Positive
    lr_scaling: Literal["linear", "sqrt", "none"]
    lr_reference: Count
    momentum: Annotated[float, Field(ge=0, lt=1)] | None
    nesterov: bool | None
    betas: Annotated[tuple[Share, Share], Field(strict=False)] | None
    eps: Positive | None
    weight_decay: NonNegative
    decay: Literal["all", "weights"]
    clip: Literal["none"] | Positive
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]


class ScheduleSpec(Part):
    name: str
    warmup: Annotated[float, Field(ge=0, lt=1)]
    milestones: Annotated[tuple[Share, ...], Field(strict=False)] | None
    gamma: Positive | None


class EvalSpec(Part):
    every: Count | None
    statistics: Annotated[
        tuple[Literal["running", "batch", "precise", "adapt"], ...], Field(min_length=1, strict=False)
    ]
    target: Share | None


class EngineSpec(Part):
    device: str
    precision: Literal["fp64", "fp32", "tf32", "bf16", "fp16"]
    lanes: Literal["auto"] | Count
    processes: Literal["auto"] | Count
    graphs: Literal["auto"] | bool = "auto"
    compile: bool = False
    deterministic: bool = False
    layout: Literal["auto", "contiguous", "channels_last"] = "auto"
    convolution: Literal["auto", "grouped", "matmul", "lone"] = "auto"


class TrackingSpec(Part):
    name: Literal["wandb", "none"]
    project: str | None
    entity: str | None
    mode: Literal["auto", "online", "offline"] | None
    tags: Annotated[tuple[str, ...], Field(strict=False)]


#: Knobs that say where data lies, not what it is.
_WHEREABOUTS = {"root", "path", "download"}
#: Fields that came after the first signatures, with the values at which they change nothing. There they are
#: left out of the identity, so that earlier runs keep their signatures.
NEUTRAL = {"model.branch": "plain", "model.init": "he"}


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
        """Every field that changes the result, and no other; absent knobs are left out."""
        tree = self.model_dump(mode="json", exclude={"tracking", "engine"})
        tree["precision"] = self.engine.precision
        tree["data"] = {k: v for k, v in tree["data"].items() if k not in _WHEREABOUTS}
        tree["optim"]["lr"] = self.lr
        del tree["optim"]["lr_scaling"], tree["optim"]["lr_reference"]
        neutral = tuple(path for path, value in NEUTRAL.items() if _field(tree, path) == value)
        identity: dict[str, Any] = _without_nulls(_drop(tree, neutral))
        return identity

    @cached_property
    def signature(self) -> str:
        """Sixteen hex digits: the hash of the identity."""
        return _digest(self.identity())

    def stack_key(self) -> str:
        """Runs of one key can train as one stack: all that shapes the computation, without what lanes may
        differ in.
        """
        return self._stack_key

    def training_key(self) -> str:
        """Runs of one key are one training: they differ in nothing but the momentum of statistics that
        training never reads.
        """
        return self._training_key

    @cached_property
    def _stack_key(self) -> str:
        return _digest(_drop(self.identity(), LANE_FIELDS))

    @cached_property
    def _training_key(self) -> str:
        return _digest(_drop(self.identity(), ("norm.momentum",) if self.norm.name in BANKED else ()))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> RunSpec:
        """As pydantic's; the copy does not remember the hashes of this one."""
        copied = super().model_copy(update=update, deep=deep)
        for remembered in ("signature", "_stack_key", "_training_key"):
            copied.__dict__.pop(remembered, None)
        return copied

    def group(self) -> str:
        """The identity without the seed: runs of one group are repetitions of each other."""
        return _digest(_drop(self.identity(), ("seed",)))


class Resolved(NamedTuple):
    """A spec and the knobs that were set but are not used by the choice they were set on, such as
    `norm.momentum of gn`.
    """

    spec: RunSpec
    unused: tuple[str, ...]


#: Norms whose running statistics training never reads. One training keeps a bank of them for every momentum.
BANKED = frozenset(
    ("bcn", "bn", "bnet", "dbn", "evonorm_b0", "ghost", "iternorm", "l1bn", "mode", "sn", "sync")
)
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


def _field(tree: dict[str, Any], path: str) -> Any:
    node: Any = tree
    for part in path.split("."):
        node = node[part]
    return node


def _drop(tree: dict[str, Any], paths: tuple[str, ...]) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(tree))
    for path in paths:
        *parents, leaf = path.split(".")
        node = copy
        for parent in parents:
            node = node[parent]
        node.pop(leaf, None)
    return copy


def _digest(tree: dict[str, Any]) -> str:
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
