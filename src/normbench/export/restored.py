"""A record of the store → its trained network as an ordinary module."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from safetensors import safe_open
from torch import nn

from normbench import __version__, data, models, norms, parts
from normbench.data.class_names import class_names
from normbench.data.dataset import Dataset
from normbench.data.fit import describe_fit
from normbench.data.shape import Shape
from normbench.data.shapes import shape_of
from normbench.engine.device import STORAGE
from normbench.engine.final_state import load_final_states, read
from normbench.engine.lane_assignment import LaneAssignment
from normbench.errors import InputError, NormbenchError, reason
from normbench.export.ordinary import ordinary, simplified
from normbench.export.parts import TrainedNetwork
from normbench.models import Network
from normbench.models.builder import Builder
from normbench.norms.surgery.changes import Change
from normbench.norms.surgery.folding import OnVectors
from normbench.record import COMPLETE, Record
from normbench.spec import RunSpec, first_fault
from normbench.store import Store

#: Images of the random input on which outputs are compared.
_IMAGES = 8


class Restored(NamedTuple):
    """A trained network, and what its files need.

    Attributes:
        network:        in evaluation mode, on the CPU.
        example:        images (N, C, H, W) that it takes.
        norm_arguments: arguments of the run's norm, by name.
        steps:          finished steps of the run.
    """

    network: TrainedNetwork
    example: torch.Tensor
    norm_arguments: dict[str, Any]
    steps: int


def restore(
    record: Record, store: Store, *, fold: bool = False, report: list[Change] | None = None
) -> Restored:
    """The trained network of a run with the statistics of its own bank.

    Args:
        fold:   make norms part of the layers next to them where that is exact.
        report: a list; what `fold` did is appended, one entry per norm.

    Raises:
        InputError: the run is not complete, keeps no final state, or cannot be built here.
        RunFailure: the module does not give the outputs of the run's network.
    """
    spec = _spec(record)
    shape = models.fitted(spec, shape_of(spec.data, store.root / "cache"))
    example = example_of(shape, STORAGE[spec.engine.precision])
    network, steps = _network(record, spec, shape, store)
    body = ordinary(network, example)
    if fold:
        body = simplified(_without_guards(norms.fold(body, example, report=report))).eval()
    trained = TrainedNetwork(body, _about(record, spec, shape, store, fold)).eval()
    return Restored(trained, example, _norm_arguments(spec, shape), steps)


def example_of(shape: Shape, dtype: torch.dtype) -> torch.Tensor:
    """Random standardized images, always the same."""
    generator = torch.Generator().manual_seed(0)
    size = (_IMAGES, shape.channels, shape.size, shape.size)
    return torch.randn(size, generator=generator, dtype=torch.float64).to(dtype)


def _spec(record: Record) -> RunSpec:
    if record.status != COMPLETE:
        raise InputError(f"run {record.signature} is {record.status}, so it has no trained network to give")
    parts.check_loaded(record.signature, record.spec, record.provenance)
    try:
        return RunSpec.model_validate(record.spec)
    except ValidationError as error:
        raise InputError(
            f"run {record.signature} cannot be built by this version: {first_fault(error)}"
        ) from None


def _norm_arguments(spec: RunSpec, shape: Shape) -> dict[str, Any]:
    """The arguments of the run's norm as numbers and texts."""
    found = Builder((spec,), shape, dry=True).norm_arguments()
    for name in ("momentum", "eps"):
        if name in found:
            (value,) = found[name]
            found[name] = value if isinstance(value, int | float) else str(value)
    return {name: value for name, value in found.items() if name != "activated"}


def _network(record: Record, spec: RunSpec, shape: Shape, store: Store) -> tuple[Network, int]:
    """The network of one lane as the last step of the run left it, and the number of its steps."""
    file = store.weights_file(record.signature)
    if not file.is_file():
        raise InputError(f"run {record.signature} keeps no final state; train it with keep_weights=true")
    assignment = LaneAssignment([spec])
    network = models.build([spec], shape, dry=True).to(STORAGE[spec.engine.precision])
    network.add_average(spec.optim.ema)
    try:
        load_final_states(network, assignment, [read(file, record.signature)])
        with safe_open(file, framework="pt") as opened:
            steps = int((opened.metadata() or {}).get("steps", 1))
    except ValueError as error:
        raise InputError(f"run {record.signature}: {reason(error)}") from None
    network.begin_step(max(0, steps - 1), steps)
    return network.eval(), steps


def _without_guards(module: nn.Module) -> nn.Module:
    """The module without the checks that folding leaves; the shapes of its inputs are known."""
    for name, child in list(module.named_children()):
        setattr(module, name, _without_guards(child))
    if isinstance(module, OnVectors):
        return nn.Identity()
    return nn.Sequential(*module) if type(module) is nn.Sequential else module


def _about(record: Record, spec: RunSpec, shape: Shape, store: Store, fold: bool) -> dict[str, Any]:
    """What a user of the network must know, as plain containers."""
    whole = shape_of(spec.data, store.root / "cache")
    notes = []
    if spec.weight.name != "none":
        notes.append(f"weights are those that weight={spec.weight.name} gives")
    if spec.norm.args.get("track") is False:
        notes.append("norms have no running statistics: outputs depend on the other images of a batch")
    if spec.optim.ema is not None:
        notes.append("weights are the raw ones, not the average of optim.ema")
    return {
        "run": record.signature,
        **{group: record.spec[group]["name"] for group in ("model", "norm", "placement", "data")},
        "seed": spec.seed,
        "input": [shape.channels, shape.size, shape.size],
        "classes": list(class_names(spec.data, shape)),
        "fitted": describe_fit(whole.size, shape.size),
        "standardize": _standardization(spec, store),
        "dtype": str(STORAGE[spec.engine.precision]).removeprefix("torch."),
        "folded": fold,
        "metrics": json.loads(json.dumps(record.metrics)),
        "notes": notes,
        "normbench": __version__,
    }


def _standardization(spec: RunSpec, store: Store) -> dict[str, Any]:
    """Mean and deviation, with white as 1, or why they are not known."""
    kind = spec.data.standardize
    if kind == "image":
        return {"kind": kind, "mean": None, "std": None}
    try:
        found = _dataset(spec, store)
    except NormbenchError as error:
        return {"kind": kind, "mean": None, "std": None, "why": str(error)}
    return {"kind": kind, "mean": list(found.mean), "std": list(found.std)}


def _dataset(spec: RunSpec, store: Store) -> Dataset:
    return data.load(
        spec.data, size=models.fitted_size(spec, store.root / "cache"), cache=store.root / "cache"
    )
