"""From a composed configuration to a RunSpec: unused knobs are dropped, every error is one line."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from normbench import diagnostics, parts, stored_state
from normbench.config.choices import FACTS, choices, declared
from normbench.config.grammar import as_sweep, written
from normbench.config.knobs import choice_name, settle
from normbench.config.refusals import check_texts, refuse_plugins
from normbench.corruptions import parse_corruptions
from normbench.data.fingerprint import state
from normbench.errors import InputError, unknown
from normbench.groups import PREACTIVATION
from normbench.momentum import parse_momentum
from normbench.sources import RUNNING, parse_source
from normbench.spec import Part, Resolved, RunSpec

#: Groups whose choices need not have every knob.
_CHOICES = ("model", "norm", "weight", "data", "optim", "schedule", "tracking")
#: Groups whose choices compute something, so that their numbers have a version.
_COMPUTING = ("model", "norm", "weight", "data", "optim", "schedule", "placement")
#: Keys of a whole sweep, which no run has.
OF_THE_SWEEP = ("invalid", "on_error", "confirm_above", "executor")
#: Keys whose default is an environment variable.
_FROM_ENVIRONMENT = {"tracking.project": "WANDB_PROJECT", "tracking.entity": "WANDB_ENTITY"}
#: Keys below the groups, for the nearest names of an unknown key.
_SETTABLE = tuple(
    f"{group}.{name}"
    for group, field in RunSpec.model_fields.items()
    for name in getattr(field.annotation, "model_fields", ())
)

__all__ = ["choices", "declared", "resolve"]


def resolve(config: Mapping[str, Any], elsewhere: Collection[str] = ()) -> Resolved:
    """Turn a composed configuration into a RunSpec.

    Args:
        config:    plain dicts and lists with the keys of `conf/config.yaml`, interpolations resolved.
        elsewhere: arguments that other runs of the sweep have, such as "norm.args.group_size". If this run's
                   choice lacks one, it is dropped instead of refused. "optim.ema": another run averages its
                   weights, so sources of averaged weights are dropped here if this run does not.

    Raises:
        InputError: an unknown key, a wrong type, a value out of range, or values that contradict each other.
    """
    tree = json.loads(json.dumps(config))
    check_texts(tree)
    for key in OF_THE_SWEEP:
        tree.pop(key, None)
    refuse_plugins(tree)
    if absent := [
        key for key, field in RunSpec.model_fields.items() if field.is_required() and key not in tree
    ]:
        raise InputError(
            f"{absent[0]} is missing; every key of conf/config.yaml must be there, null if need be"
        )
    _check_groups(tree)
    known = {group: declared(group, choice_name(group, tree[group])) for group in _CHOICES}
    unused = [knob for group in _CHOICES for knob in settle(group, tree[group], known[group], elsewhere)]
    unused += _drop_stem_activation(tree)
    _resolve_weights(tree["model"])
    _take_facts(tree)
    _resolve_total(tree)
    _unset_if_empty(tree["tracking"])
    if tree["steps"] is not None:
        tree["epochs"] = None
    unused += _resolve_norm(tree["norm"], known["norm"])
    _resolve_sites(tree["placement"])
    _resolve_eval(tree["eval"])
    if "optim.ema" in elsewhere:
        unused += _drop_averages(tree)
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(tree["engine"]["device"])):
        raise InputError(f"unknown engine.device={tree['engine']['device']}; use auto, cpu, cuda or cuda:N")
    _resolve_diagnostics(tree)
    tree["data"]["fingerprint"] = state(tree["data"])
    tree["plugins"] = parts.digests(tree)
    try:
        spec = RunSpec.model_validate(tree)
    except ValidationError as error:
        raise _one_line(error) from None
    if spec.schedule.name == "plateau":
        _check_plateau(spec)
    if spec.steps is None and spec.epochs is None:
        raise InputError("the length of a run is given by epochs or by steps; both are null")
    _check_average(spec)
    return Resolved(spec, tuple(unused))


def _check_groups(tree: Mapping[str, Any]) -> None:
    """Refuse a number, a text, a list or null in the place of a group of keys."""
    for group, field in RunSpec.model_fields.items():
        part = field.annotation
        if not (isinstance(part, type) and issubclass(part, Part)) or isinstance(tree[group], Mapping):
            continue
        if group in _CHOICES or group == "placement":
            choice_name(group, tree[group])
        first = next(iter(part.model_fields))
        raise InputError(f"{group} must be keys with values, such as {group}.{first}=…; got {tree[group]!r}")


def _check_average(spec: RunSpec) -> None:
    """Refuse to evaluate averaged weights of a run that has none."""
    asked = [source for source in spec.eval.statistics if source.averaged]
    if asked and spec.optim.ema is None:
        raise InputError(
            f"eval.statistics={asked[0]} evaluates averaged weights, but optim.ema is null; "
            "set optim.ema to a decay such as 0.99, or leave it out"
        )


def _drop_averages(tree: dict[str, Any]) -> list[str]:
    """Drop sources of averaged weights, in place, if the run has no average; return what was dropped."""
    statistics = tree["eval"].get("statistics")
    if tree["optim"].get("ema") is not None or not isinstance(statistics, list):
        return []
    dropped = [source for source in statistics if source.averaged]
    tree["eval"]["statistics"] = [s for s in statistics if not s.averaged] or [RUNNING]
    return [f"eval.statistics={source} of optim.ema=null" for source in dropped]


def _drop_stem_activation(tree: dict[str, Any]) -> list[str]:
    """Reset `model.stem_activation`, in place, if the placement has no use for it; return its name then."""
    placement, model = tree["placement"]["name"], tree["model"]
    if placement in PREACTIVATION or model.get("stem_activation") != "in_branch":
        return []
    model["stem_activation"] = "before_split"
    return [f"model.stem_activation of {placement}"]


def _resolve_weights(model: dict[str, Any]) -> None:
    """Find the state that the run starts from, and hash its content, in place."""
    model["weights_hash"] = None
    if model.get("weights") is not None:
        model["weights"], file = stored_state.locate(model["weights"])
        model["weights_hash"] = stored_state.contents(file).digest


def _take_facts(tree: dict[str, Any]) -> None:
    """Replace the facts that the choices declare by what they mean for the run, in place."""
    for fact in ("numerics", "neutral"):
        if tree.get(fact):
            raise InputError(f"{fact} is declared by the choices of a run and cannot be set")
        tree[fact] = {}
    for group in _COMPUTING:
        facts = FACTS | {k: v for k, v in declared(group, tree[group]["name"]).items() if k in FACTS}
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


def _unset_if_empty(tracking: dict[str, Any]) -> None:
    """Take an empty environment variable as none, in place: CI systems set unused variables to ""."""
    for key, default in (("project", "normbench"), ("entity", None)):
        if tracking.get(key) == "" and os.environ.get(_FROM_ENVIRONMENT[f"tracking.{key}"]) == "":
            tracking[key] = default


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


def _resolve_diagnostics(tree: dict[str, Any]) -> None:
    """Write the diagnostics that are asked for in one form, in place."""
    given = tree.get("diagnostics") or []
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"diagnostics must be a list of names, such as [running_error]; got {given!r}")
    tree["diagnostics"] = [str(each) for each in diagnostics.parse_all(texts)]


def _resolve_norm(norm: dict[str, Any], known: Mapping[str, Any]) -> list[str]:
    """Parse the momentum, in place. Without running statistics, reset what they alone would use.

    Returns:
        The knobs that were set and reset, such as "norm.args.variance of bn".
    """
    unused = []
    if norm["args"].get("track") is False:
        norm["momentum"] = None  # nothing is tracked, so nothing is weighed
        usual = known["args"].get("variance")
        if norm["args"].get("variance") in {"biased", "unbiased"} - {usual}:
            norm["args"]["variance"] = usual
            unused.append(f"norm.args.variance of {norm['name']}")
    if norm.get("momentum") is not None:
        norm["momentum"] = parse_momentum(norm["momentum"], "norm.momentum")
    return unused


def _resolve_sites(placement: Any) -> None:
    """Give equal sets of sites one spelling: sorted, each once; a lone one as text."""
    sites = placement.get("sites") if isinstance(placement, dict) else None
    if isinstance(sites, list) and sites and all(isinstance(site, str) for site in sites):
        distinct = sorted(set(sites))
        placement["sites"] = distinct if len(distinct) > 1 else distinct[0]


def _check_plateau(spec: RunSpec) -> None:
    if spec.schedule.gamma is not None and spec.schedule.gamma >= 1:
        raise InputError(f"schedule.gamma of plateau must be below 1; got {spec.schedule.gamma:g}")
    if not spec.data.valid:
        raise InputError(
            "schedule=plateau decides by the validation loss, so data.valid must be above 0; got 0; give for "
            "example data.valid=0.1"
        )


def _resolve_eval(values: dict[str, Any]) -> None:
    """Parse sources and corruptions, in place, so that their own messages reach the user."""
    if isinstance(values.get("statistics"), list):
        values["statistics"] = [parse_source(each) for each in values["statistics"]]
    if "corruptions" in values:
        values["corruptions"] = parse_corruptions(values["corruptions"])


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
    if first["type"] == "extra_forbidden" and len(place) == 1 and isinstance(first["input"], Mapping):
        below = ", ".join(map(str, first["input"])) or "none"
        return InputError(
            f"unknown key '{key}' with keys below it ({below}); a file of your own that sets "
            "keys of a run must begin with the line '# @package _global_'"
        )
    if first["type"] == "extra_forbidden" and len(place) == 1:
        own = {*RunSpec.model_fields, "total", *OF_THE_SWEEP} - {"numerics", "plugins", "neutral"}
        return unknown("key", key, own, beyond=_SETTABLE)
    if first["type"] == "extra_forbidden":
        part = RunSpec.model_fields[place[0]].annotation if len(place) > 1 else RunSpec
        return unknown("key", key, [".".join([*place[:-1], f]) for f in part.model_fields])  # type: ignore[union-attr]
    if first["type"] == "missing":
        return InputError(f"{key} is missing; every key of conf/config.yaml must have a value")
    alike = [e for e in error.errors() if e["loc"][: len(place)] == first["loc"][: len(place)]]
    wanted = "; or ".join(dict.fromkeys(e["msg"].removeprefix("Input ") for e in alike))
    given = first["input"]
    if any(e["type"] == "tuple_type" for e in alike):
        hint = f"write {key}={written([given])}" if isinstance(given, str | int | float) else ""
    else:
        hint = "" if place[-1].isdigit() else as_sweep(key, given)
    variable = _FROM_ENVIRONMENT.get(key)
    source = f" from {variable}" if variable and os.environ.get(variable) == given else ""
    return InputError(f"{key} {wanted}; got {given!r}{source}" + (f"; {hint}" if hint else ""))
