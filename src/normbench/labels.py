"""The fields in which runs differ, and their values as text.

Fields have the names of the command line: `norm` is short for `norm.name`, and `norm.momentum` is a knob.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from normbench.paths import get

MISSING = "–"
_MAPPING = (dict, Mapping)  # PERF: dict is the usual one
#: Groups and fields that may differ between repetitions of a configuration.
_ALL_NOT_COMPARED = ("seed", "keep_weights", "diagnostics", "eval", "neutral", "tracking")
#: These and parts of other groups, by dotted key: where data lie, and how a run is computed.
_NOT_COMPARED = re.compile(
    rf"({'|'.join(_ALL_NOT_COMPARED)})\b|data\.(root|download)$|engine\.(?!precision$)"
)


def label(given: Any) -> str:
    """A value as text.

    >>> [label(v) for v in (2, 0.1, 1.0, True, None, "bn", [100, 100])]
    ['2', '0.1', '1', 'true', '–', 'bn', '100-100']
    """
    if type(given) is str:  # PERF: the usual one
        return given
    if given is None:
        return MISSING
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, float):
        return f"{given:.12g}"
    if isinstance(given, (list, tuple)):
        return "-".join(label(part) for part in given)
    if isinstance(given, Mapping):
        return json.dumps(given, sort_keys=True)
    return str(given)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings into one mapping with dotted keys.

    >>> flatten({"norm": {"name": "gn", "args": {"groups": 2}}, "batch": 8})
    {'norm.name': 'gn', 'norm.args.groups': 2, 'batch': 8}
    """
    flat: dict[str, Any] = {}
    for key, part in tree.items():
        if isinstance(part, _MAPPING) and part:
            flat |= flatten(part, f"{prefix}{key}.")
        else:
            flat[prefix + key] = part
    return flat


def field(spec: Mapping[str, Any], key: str) -> Any:
    """A field of a specification by its dotted name; None if the run does not have it.

    For a group it is the name of the choice; for `total` it is batch × workers.

    >>> spec = {"norm": {"name": "bn", "momentum": 0.1}, "batch": 2, "workers": 4}
    >>> [field(spec, key) for key in ("norm", "norm.momentum", "total", "norm.args.groups")]
    ['bn', 0.1, 8, None]
    """
    if key == "total":
        return spec["batch"] * spec["workers"]
    found = get(spec, key)
    return found["name"] if isinstance(found, _MAPPING) and "name" in found else found


def settings(spec: Mapping[str, Any], keys: Sequence[str]) -> str:
    """The fields as `key=value`, without fields that the run does not have.

    >>> settings({"norm": {"name": "gn"}, "optim": {"lr": 0.5}}, ["norm", "optim.lr", "norm.momentum"])
    'norm=gn optim.lr=0.5'
    """
    values = {key: field(spec, key) for key in keys}
    return " ".join(f"{key}={label(value)}" for key, value in values.items() if value is not None)


def material(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The fields in which repetitions of one configuration must not differ, with dotted keys."""
    return {k: v for k, v in flatten(spec).items() if v != {} and not _NOT_COMPARED.match(k)}


def repetition_key(spec: Mapping[str, Any]) -> str:
    """A text that is equal only for specifications with equal `material`. PERF: fifteen times as fast."""
    return repr([(key, part) for key, part in spec.items() if key not in _ALL_NOT_COMPARED])


def varying(specs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fields in which runs differ, without the seed. Fields with the most values come first.

    A knob is left out if the choice of its group determines it: bn has a momentum, gn has none. The version
    of a choice's numbers (`numerics.schedule`) is left out likewise, and the source of a user's own choice
    (`plugins.norm`).
    `workers` is left out if all runs have the same total and differ in batch.

    >>> varying([{"norm": {"name": "bn", "eps": 1}}, {"norm": {"name": "gn", "eps": 2}}])
    ['norm']
    >>> varying([{"norm": {"name": "bn", "eps": 1}}, {"norm": {"name": "bn", "eps": 2}}])
    ['norm.eps']
    """
    distinct: dict[str, Mapping[str, Any]] = {}
    for spec in specs:
        distinct.setdefault(repetition_key(spec), spec)
    specs = list(distinct.values())
    flat = [material(spec) for spec in specs]
    keys = dict.fromkeys(key for run in flat for key in run)
    values = {key: {label(run.get(key)) for run in flat} for key in keys}
    differ = {key: len(found) for key, found in values.items() if len(found) > 1}
    if "batch" in differ and len({field(spec, "total") for spec in specs if "workers" in spec}) == 1:
        differ.pop("workers", None)
    for content, place in (("data.fingerprint", "data.path"), ("model.weights_hash", "model.weights")):
        if content not in differ:
            differ.pop(place, None)  # the same content at another place
        elif _determined(content, (_choice(content), place), flat):
            del differ[content]
    names = {key: count for key, count in differ.items() if key.endswith(".name")}
    knobs = {
        key: count
        for key, count in differ.items()
        if key not in names and not ((name := _choice(key)) in names and _determined(key, (name,), flat))
    }
    both = {key.removesuffix(".name"): count for key, count in names.items()} | knobs
    return sorted(both, key=lambda key: -both[key])


def _choice(key: str) -> str:
    """The field with the name of the choice of a knob's group.

    >>> _choice("norm.momentum"), _choice("numerics.schedule"), _choice("plugins.model")
    ('norm.name', 'schedule.name', 'model.name')
    """
    return f"{key.removeprefix('numerics.').removeprefix('plugins.').partition('.')[0]}.name"


def _determined(key: str, by: Sequence[str], flat: Sequence[Mapping[str, Any]]) -> bool:
    """Whether runs with equal fields `by` also have equal `key`."""
    pairs = {(*(label(run.get(name)) for name in by), label(run.get(key))) for run in flat}
    return len(pairs) == len({pair[:-1] for pair in pairs})
