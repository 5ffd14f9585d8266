"""Dotted paths into plain trees, such as `norm.args.track`. A path that leads nowhere is no error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_MAPPING = (dict, Mapping)  # PERF: dict is the usual one


def get(tree: Mapping[str, Any], path: str, default: Any = None) -> Any:
    """The value at a path, or the default if the path leads nowhere.

    >>> get({"norm": {"args": {"track": True}}}, "norm.args.track"), get({}, "norm.args", 0)
    (True, 0)
    """
    node: Any = tree
    for part in path.split("."):
        if not isinstance(node, _MAPPING) or part not in node:
            return default
        node = node[part]
    return node


def without(tree: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """A copy of the tree without the values at some paths; paths that lead nowhere change nothing.

    >>> without({"norm": {"name": "bn", "eps": 1.0}, "seed": 0}, ["norm.eps", "model.width"])
    {'norm': {'name': 'bn'}, 'seed': 0}
    """
    dropped = set(paths)
    heads = {path.partition(".")[0] for path in dropped}
    copy: dict[str, Any] = {}
    for key, value in tree.items():
        if key in dropped:
            continue
        if key in heads and isinstance(value, Mapping):
            inner = [path.partition(".")[2] for path in dropped if path.startswith(f"{key}.")]
            value = without(value, inner)
        copy[key] = value
    return copy
