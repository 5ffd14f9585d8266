"""The groups of a specification: one class per group, with the types and ranges of its fields.

A new knob is a field here, declared with `neutral_at`, and a value in `conf/`.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator
from pydantic_core import PydanticCustomError

from normbench.conditions import Condition
from normbench.corruptions import Corruption, parse_corruptions
from normbench.momentum import Momentum, parse_momentum
from normbench.numbers import LARGEST, MOST, SMALLEST
from normbench.sources import RUNNING, Source, parse_source


def _held(number: float) -> float:
    """The number, if fp32 does not round it to 0."""
    if 0 < number < SMALLEST:
        raise PydanticCustomError("small", f"should be 0 or at least {SMALLEST:g}, which fp32 can hold")
    return number


Count = Annotated[int, Field(ge=1, le=MOST)]
Positive = Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False), AfterValidator(_held)]
Share = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False), AfterValidator(_held)]
GpuNumber = Annotated[int, Field(ge=0, le=4095)]
#: A decay of an average: at 1 nothing would ever enter it, and Adam's correction divides by 1 − decay.
Decay = Annotated[float, Field(ge=0, lt=1)]
#: A norm momentum, parsed once. Records hold its canonical number or text.
ParsedMomentum = Annotated[
    Momentum,
    PlainValidator(lambda momentum: parse_momentum(momentum, "norm.momentum")),
    PlainSerializer(lambda momentum: parse_momentum(momentum).canonical),
]

#: Sources of statistics, parsed once, each once; in records they are canonical texts.
ParsedSource = Annotated[Source, PlainValidator(parse_source), PlainSerializer(str)]
Sources = Annotated[
    tuple[ParsedSource, ...],
    Field(min_length=1, strict=False),
    AfterValidator(lambda sources: tuple(dict.fromkeys(sources))),
]
#: Corruptions of the test images, parsed once, every severity spelled out.
Corruptions = Annotated[
    tuple[Corruption, ...],
    PlainValidator(parse_corruptions),
    PlainSerializer(lambda corruptions: [str(each) for each in corruptions]),
]
#: What is measured beside loss and error; see `normbench.conditions`.
Quality = Annotated[
    tuple[Literal["nll", "ece", "temperature", "reliability", "confusion", "class_error"], ...],
    Field(strict=False),
    AfterValidator(lambda metrics: tuple(dict.fromkeys(metrics))),
]


INITIALIZATIONS = ("he", "he:relu", "xavier", "normal:σ", "torch", "orthogonal", "lsuv")


def _initialization(text: object) -> str:
    """A value of `model.init` in its canonical form.

    >>> _initialization("normal:1e-2")
    'normal:0.01'
    """
    kind, _, number = str(text).partition(":")
    if kind == "normal":
        try:
            deviation = float(number)
        except ValueError:
            deviation = math.nan
        if SMALLEST <= deviation <= LARGEST:
            return f"normal:{deviation!r}"
        raise PydanticCustomError(
            "init", "should be normal:σ with a finite standard deviation σ > 0, such as normal:0.01"
        )
    if str(text) not in INITIALIZATIONS:
        raise PydanticCustomError("init", f"should be one of {', '.join(INITIALIZATIONS)}")
    return str(text)


#: How initial weights are drawn, see `models.initial_weights`.
Initialization = Annotated[str, AfterValidator(_initialization)]


def neutral_at(value: Any) -> Any:
    """Declare a field that was added after the first signatures, with its neutral value as the default.

    At the neutral value a field changes nothing and is not part of the signature. So earlier records keep
    their signatures.
    """
    return Field(default=value, json_schema_extra={"neutral": True})


class Part(BaseModel):
    """A group of the specification: immutable, without coercion, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ModelSpec(Part):
    name: str
    activation: Literal["relu", "leaky_relu", "elu", "silu", "gelu", "sigmoid", "tanh"] | None
    hidden: Annotated[tuple[Count, ...], Field(min_length=1, max_length=256, strict=False)] | None
    width: Count | None
    pool: Literal["max", "avg"] | None
    stem: Literal["cifar", "imagenet"] | None
    shortcut: Literal["pad", "conv"] | None
    dropout: Annotated[float, Field(ge=0, lt=1)] | None
    zero_last: bool | None
    bias: Literal["auto"] | bool | None
    branch: Literal["plain", "skipinit", "fixup"] = neutral_at("plain")
    init: Initialization = neutral_at("he")
    stem_activation: Literal["before_split", "in_branch"] = neutral_at("before_split")
    #: Where the state is from which the run starts, see `normbench.stored_state`. Its content alone counts.
    weights: str | None = None
    weights_hash: str | None = neutral_at(None)


class NormSpec(Part):
    name: str
    momentum: ParsedMomentum | None
    eps: Positive | None
    affine: bool | Literal["weight", "bias"] | None
    args: dict[str, Any]
    #: Training never reads the running statistics. So runs that differ only in momentum share a training.
    banks: bool = Field(default=False, exclude=True)


class WeightSpec(Part):
    name: str
    eps: Positive | None


#: Placements whose residual units begin with an activation; `model.stem_activation` is a knob of these only.
PREACTIVATION = ("norm_act_conv", "act_only_preact")


class PlacementSpec(Part):
    name: Literal[
        "conv_norm_act",
        "conv_act_norm",
        "conv_act_pool_norm",
        "norm_act_conv",
        "after_add",
        "act_before_add",
        "act_only_preact",
    ]
    sites: str | Annotated[tuple[str, ...], Field(min_length=1, strict=False)]


class DataSpec(Part):
    name: str
    root: str | None
    path: str | None
    fingerprint: str | None = None
    classes: Annotated[int, Field(ge=2, le=MOST)] | None
    size: Literal["auto"] | Count | None
    channels: Literal["auto"] | Literal[1, 3] | None
    train_size: Literal["all"] | Count
    test_size: Literal["all"] | Count
    flip: bool
    crop: Annotated[int, Field(ge=0, le=MOST)]
    download: bool | None
    #: How the images are read: whole, or streamed by so many processes. They are the same bits.
    stream: Literal["auto"] | bool | None = None
    readers: Literal["auto"] | Annotated[int, Field(ge=0, le=256)] | None = None
    #: Crops of the stored images. A data set that is not read from image files has none.
    resized_crop: Share | None = neutral_at(0.0)
    center_crop: Annotated[float, Field(ge=0.05, le=1)] | None = neutral_at(1.0)
    standardize: Literal["channel", "pixel", "image", "minmax", "none"] = neutral_at("channel")
    valid: Annotated[float, Field(ge=0, lt=1)] = neutral_at(0.0)
    sampling: Literal["iid", "class_pure"] = neutral_at("iid")


class OptimSpec(Part):
    name: str
    lr: Positive
    lr_scaling: Literal["linear", "sqrt", "none"]
    lr_reference: Count
    momentum: Annotated[float, Field(ge=0, lt=1)] | None
    nesterov: bool | None
    betas: Annotated[tuple[Decay, Decay], Field(strict=False)] | None
    eps: Positive | None
    weight_decay: NonNegative
    decay: Literal["all", "weights"]
    clip: Literal["none"] | Positive
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    train: Literal["all", "norm", "norm+head"] = neutral_at("all")
    gamma_l1: NonNegative = neutral_at(0.0)
    alpha: Annotated[float, Field(ge=0, lt=1)] | None = neutral_at(None)
    ema: Annotated[float, Field(gt=0, lt=1)] | None = neutral_at(None)


class ScheduleSpec(Part):
    name: str
    warmup: Annotated[float, Field(ge=0, lt=1)]
    milestones: Annotated[tuple[Share, ...], Field(strict=False)] | None
    gamma: Positive | None
    every: Count | None = neutral_at(None)
    patience: Annotated[int, Field(ge=0, le=MOST)] | None = neutral_at(None)
    minimum: Share | None = neutral_at(None)


class EvalSpec(Part):
    every: Count | None
    statistics: Sources
    target: Share | Annotated[tuple[Share, ...], Field(strict=False)] | None
    corruptions: Corruptions = ()
    metrics: Quality = ()

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Under what a run is evaluated at its end: running statistics, and all that is asked for."""
        images = (None, *self.corruptions)
        asked = [Condition(source, corruption) for corruption in images for source in self.statistics]
        return tuple(dict.fromkeys([Condition(RUNNING), *asked]))

    @property
    def targets(self) -> tuple[float, ...]:
        """The target test errors. `steps_to_<target>` reports the first step that reached each of them."""
        if self.target is None:
            return ()
        return self.target if isinstance(self.target, tuple) else (self.target,)


class EngineSpec(Part):
    device: str
    precision: Literal["fp64", "fp32", "tf32", "bf16", "fp16"]
    lanes: Literal["auto"] | Count
    processes: Literal["auto"] | Count
    devices: Literal["one", "all"] | Annotated[tuple[GpuNumber, ...], Field(strict=False, min_length=1)] = (
        "one"
    )
    graphs: Literal["auto"] | bool = "auto"
    compile: bool = False
    deterministic: bool = False
    layout: Literal["auto", "contiguous", "channels_last"] = "auto"
    convolution: Literal["auto", "grouped", "matmul", "lone"] = "auto"


def _text(longest: int, forbidden: str = "") -> AfterValidator:
    """A validator for text that wandb accepts: 1 to `longest` characters, without forbidden ones."""
    listed = f"none of {' '.join(forbidden)} and " if forbidden else ""
    rule = f"must have 1 to {longest} characters, {listed}no control characters"

    def check(text: str) -> str:
        if not text.strip() or len(text) > longest or any(c in forbidden or ord(c) < 32 for c in text):
            raise PydanticCustomError("text", rule)
        return text

    return AfterValidator(check)


#: The rules of wandb. Names become parts of a URL.
WandbName = Annotated[str, _text(128, "/\\#?%:")]
WandbTag = Annotated[str, _text(64)]


class TrackingSpec(Part):
    name: Literal["wandb", "tensorboard", "csv", "none"]
    project: WandbName | None
    entity: WandbName | None
    mode: Literal["auto", "online", "offline"] | None
    tags: Annotated[tuple[WandbTag, ...], Field(strict=False)]
