"""RunSpec: one resolved run as a frozen, typed value, and the signature that identifies its result.

Values live in `conf/`, types and ranges live here. A knob that is null in the packaged YAML of a choice is one that the
choice does not have (`norm/gn.yaml` has no momentum): whatever is set there is dropped, so runs that differ in it alone
are one run. This module never imports torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from normbench.errors import InputError, unknown
from normbench.fingerprint import fingerprint
from normbench.momentum import Momentum, parse_momentum

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


class NormSpec(Part):
    name: str
    momentum: float | str | None
    eps: Positive | None
    affine: bool | Literal["weight", "bias"] | None
    args: dict[str, Any]

    @property
    def statistics_momentum(self) -> Momentum | None:
        return None if self.momentum is None else parse_momentum(self.momentum)


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
    statistics: Annotated[tuple[Literal["running", "batch"], ...], Field(min_length=1, strict=False)]
    target: Share | None


class EngineSpec(Part):
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]
    precision: Literal["fp32", "bf16", "fp64"]
    lanes: Literal["auto"] | Count
    processes: Literal["auto"] | Count


class TrackingSpec(Part):
    name: Literal["wandb", "none"]
    project: str | None
    entity: str | None
    mode: Literal["auto", "online", "offline"] | None
    tags: Annotated[tuple[str, ...], Field(strict=False)]


#: Groups whose members need not have every knob, and the knobs that say where data lies, not what it is.
_CHOICES = ("model", "norm", "weight", "data", "optim", "schedule")
_WHEREABOUTS = {"root", "path", "download"}


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
        return self.optim.lr * {"linear": ratio, "sqrt": ratio**0.5, "none": 1.0}[self.optim.lr_scaling]

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
        return _without_nulls(tree)

    @property
    def signature(self) -> str:
        """Sixteen hex digits: the hash of the identity."""
        return _digest(self.identity())

    def stack_key(self) -> str:
        """Runs of one key can train as one stack: all that shapes the computation, without what lanes may differ in."""
        return _digest(_drop(self.identity(), LANE_FIELDS))

    def group(self) -> str:
        """The identity without the seed: runs of one group are repetitions of each other."""
        return _digest(_drop(self.identity(), ("seed",)))


#: Fields in which the lanes of one stack may differ.
LANE_FIELDS = (
    "seed", "optim.lr", "optim.weight_decay", "optim.momentum", "norm.momentum", "norm.eps",
)  # fmt: skip


class Resolved(NamedTuple):
    """A spec and the knobs that were set but are not used by the choice they were set on, such as `norm.momentum of gn`."""

    spec: RunSpec
    unused: tuple[str, ...]


def resolve(config: Mapping[str, Any]) -> Resolved:
    """Turn a composed configuration into a RunSpec.

    Args:
        config: plain containers, interpolations resolved, with the keys of `conf/config.yaml`.

    Raises:
        InputError: an unknown key, a wrong type, a value out of range, or values that contradict each other.
    """
    tree = json.loads(json.dumps(config))
    unused = [knob for group in _CHOICES for knob in _drop_unused(group, tree[group])]
    _resolve_total(tree)
    if tree["steps"] is not None:
        tree["epochs"] = None
    _resolve_norm(tree["norm"])
    if tree["data"].get("path"):
        tree["data"]["fingerprint"] = fingerprint(tree["data"]["path"])
    try:
        spec = RunSpec.model_validate(tree)
    except ValidationError as error:
        raise _one_line(error) from None
    if spec.steps is None and spec.epochs is None:
        raise InputError("the length of a run is given by epochs or by steps; both are null")
    return Resolved(spec, tuple(unused))


@lru_cache(maxsize=256)
def declared(group: str, name: str) -> dict[str, Any]:
    """The packaged YAML of a choice: its knobs, null where it has none.

    Raises:
        InputError: there is no such choice; the nearest names are offered.
    """
    folder = files("normbench.conf") / group
    file = folder / f"{name}.yaml"
    if not file.is_file():
        raise unknown(group, name, choices(group))
    knobs: dict[str, Any] = yaml.safe_load(file.read_text())
    return knobs


def choices(group: str) -> list[str]:
    """The packaged names of a configuration group, sorted."""
    return sorted(f.name[:-5] for f in (files("normbench.conf") / group).iterdir() if f.name.endswith(".yaml"))


def _drop_unused(group: str, values: dict[str, Any]) -> list[str]:
    """Set to None, in place, what the choice has no use for; return the names of those that were set."""
    name = values.get("name")
    if not isinstance(name, str):
        raise InputError(f"{group}.name must be a name out of {', '.join(choices(group))}; got {name!r}")
    known = declared(group, name)
    unused = []
    for knob, default in known.items():
        if default is None and values.get(knob) is not None:
            values[knob] = None
            unused.append(f"{group}.{knob} of {name}")
    for knob in values.get("args") or {}:
        if knob not in known["args"]:
            raise unknown(f"argument of {group}={name}", knob, known["args"])
    return unused


def _resolve_total(tree: dict[str, Any]) -> None:
    total, batch = tree.pop("total", None), tree["batch"]
    if total is None:
        return
    if not (_whole(batch) and _whole(total)):
        raise InputError(f"batch and total must be whole numbers ≥ 1; got batch={batch}, total={total}")
    if total % batch:
        raise InputError(f"total must be a multiple of batch, so that workers = total / batch; got total={total}, batch={batch}")
    if tree["workers"] not in (1, total // batch):
        raise InputError(f"total={total} and batch={batch} make {total // batch} workers; got workers={tree['workers']}. Give two of the three")
    tree["workers"] = total // batch


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _resolve_norm(norm: dict[str, Any]) -> None:
    if (norm.get("args") or {}).get("track") is False:
        norm["momentum"] = None  # nothing is tracked, so nothing is weighed
    if norm.get("momentum") is not None:
        norm["momentum"] = parse_momentum(norm["momentum"]).canonical


def _one_line(error: ValidationError) -> InputError:
    first = error.errors()[0]
    place = [str(p) for p in first["loc"] if not str(p).startswith(("literal", "function", "int", "float", "bool", "str", "tuple", "constrained"))]
    key = ".".join(place)
    if first["type"] == "extra_forbidden":
        part = RunSpec.model_fields[place[0]].annotation if len(place) > 1 else RunSpec
        return unknown("key", key, [".".join([*place[:-1], f]) for f in part.model_fields])  # type: ignore[union-attr]
    if first["type"] == "missing":
        return InputError(f"{key} is missing; every key of conf/config.yaml must have a value")
    wanted = "; or ".join(dict.fromkeys(e["msg"].removeprefix("Input ") for e in error.errors() if e["loc"][: len(place)] == first["loc"][: len(place)]))
    return InputError(f"{key} {wanted}; got {first['input']!r}")


def _without_nulls(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {k: _without_nulls(v) for k, v in tree.items() if v is not None}
    return tree


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
