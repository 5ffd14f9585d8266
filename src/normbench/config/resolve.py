"""From a composed configuration to a RunSpec: unused knobs dropped, every error one line.

A knob that is null in the packaged YAML of a choice is one that the choice does not have (`norm/gn.yaml` has
no momentum): whatever is set there is dropped, so runs that differ in it alone are one run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any

import yaml
from pydantic import ValidationError

from normbench.data.fingerprint import state
from normbench.errors import InputError, unknown
from normbench.groups import PREACTIVATION
from normbench.momentum import parse_momentum
from normbench.spec import Resolved, RunSpec

#: Groups whose members need not have every knob.
_CHOICES = ("model", "norm", "weight", "data", "optim", "schedule")
#: Groups whose members compute something, so that their numbers have a version.
_COMPUTING = (*_CHOICES, "placement")
#: Facts that the packaged YAML of a choice may declare beside its knobs, with their defaults.
#: numerics: version of its numbers, raised by every change; neutral: arguments by path within the group,
#: with the value at which they leave the signature; banks: see `NormSpec.banks`.
_FACTS: dict[str, Any] = {"numerics": 1, "neutral": {}, "banks": False}


def resolve(config: Mapping[str, Any]) -> Resolved:
    """Turn a composed configuration into a RunSpec.

    Args:
        config: plain containers, interpolations resolved, with the keys of `conf/config.yaml`.

    Raises:
        InputError: an unknown key, a wrong type, a value out of range, or values that contradict each other.
    """
    tree = json.loads(json.dumps(config))
    if absent := [
        key for key, field in RunSpec.model_fields.items() if field.is_required() and key not in tree
    ]:
        raise InputError(
            f"{absent[0]} is missing; every key of conf/config.yaml must be there, null if need be"
        )
    unused = [knob for group in _CHOICES for knob in _drop_unused(group, tree[group])]
    unused += _drop_stem_activation(tree)
    _take_facts(tree)
    _resolve_total(tree)
    if tree["steps"] is not None:
        tree["epochs"] = None
    _resolve_norm(tree["norm"])
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(tree["engine"]["device"])):
        raise InputError(f"unknown engine.device={tree['engine']['device']}; use auto, cpu, cuda or cuda:N")
    tree["data"]["fingerprint"] = state(tree["data"])
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
    knobs: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return knobs


def choices(group: str) -> list[str]:
    """The packaged names of a configuration group, sorted."""
    return sorted(
        f.name[:-5] for f in (files("normbench.conf") / group).iterdir() if f.name.endswith(".yaml")
    )


def _drop_unused(group: str, values: dict[str, Any]) -> list[str]:
    """Set to None, in place, what the choice has no use for; return the names of those that were set."""
    name = values.get("name") if isinstance(values, dict) else values
    if not isinstance(name, str):
        raise InputError(f"{group}.name must be a name out of {', '.join(choices(group))}; got {name!r}")
    known = declared(group, name)
    unused = []
    for knob, default in known.items():
        if knob in _FACTS:
            continue
        if default is None and values.get(knob) is not None:
            values[knob] = None
            unused.append(f"{group}.{knob} of {name}")
    for knob in values.get("args") or {}:
        if knob not in known["args"]:
            raise unknown(f"argument of {group}={name}", knob, known["args"])
    return unused


def _drop_stem_activation(tree: dict[str, Any]) -> list[str]:
    """Reset `model.stem_activation`, in place, if the placement has no use for it; return its name then."""
    placement, model = tree["placement"]["name"], tree["model"]
    if placement in PREACTIVATION or model.get("stem_activation") != "in_branch":
        return []
    model["stem_activation"] = "before_split"
    return [f"model.stem_activation of {placement}"]


def _take_facts(tree: dict[str, Any]) -> None:
    """Replace the facts that the choices declare by what they mean for the run, in place."""
    tree["numerics"], tree["neutral"] = {}, {}
    for group in _COMPUTING:
        facts = _FACTS | {k: v for k, v in declared(group, tree[group]["name"]).items() if k in _FACTS}
        for fact, value in facts.items():
            if tree[group].pop(fact, value) != value:
                raise InputError(
                    f"{group}.{fact} is declared by {group}={tree[group]['name']} and cannot be set"
                )
        if facts["numerics"] > 1:
            tree["numerics"][group] = facts["numerics"]
        tree["neutral"] |= {f"{group}.{path}": value for path, value in facts["neutral"].items()}
        if group == "norm":
            tree["norm"]["banks"] = facts["banks"]


def _resolve_total(tree: dict[str, Any]) -> None:
    total, batch = tree.pop("total", None), tree["batch"]
    if total is None:
        return
    if not (_whole(batch) and _whole(total)):
        raise InputError(f"batch and total must be whole numbers ≥ 1; got batch={batch}, total={total}")
    if total % batch:
        raise InputError(
            f"total must be a multiple of batch, so that workers = total / batch; "
            f"got total={total}, batch={batch}"
        )
    if tree["workers"] not in (1, total // batch):
        raise InputError(
            f"total={total} and batch={batch} make {total // batch} workers; got workers={tree['workers']}. "
            "Give two of the three"
        )
    tree["workers"] = total // batch


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _resolve_norm(norm: dict[str, Any]) -> None:
    if (norm.get("args") or {}).get("track") is False:
        norm["momentum"] = None  # nothing is tracked, so nothing is weighed
    if norm.get("momentum") is not None:
        norm["momentum"] = parse_momentum(norm["momentum"])


def _one_line(error: ValidationError) -> InputError:
    first = error.errors()[0]
    place = [
        str(p)
        for p in first["loc"]
        if not str(p).startswith(
            ("literal", "function", "int", "float", "bool", "str", "tuple", "constrained")
        )
    ]
    key = ".".join(place)
    if first["type"] == "extra_forbidden":
        part = RunSpec.model_fields[place[0]].annotation if len(place) > 1 else RunSpec
        return unknown("key", key, [".".join([*place[:-1], f]) for f in part.model_fields])  # type: ignore[union-attr]
    if first["type"] == "missing":
        return InputError(f"{key} is missing; every key of conf/config.yaml must have a value")
    wanted = "; or ".join(
        dict.fromkeys(
            e["msg"].removeprefix("Input ")
            for e in error.errors()
            if e["loc"][: len(place)] == first["loc"][: len(place)]
        )
    )
    return InputError(f"{key} {wanted}; got {first['input']!r}")
