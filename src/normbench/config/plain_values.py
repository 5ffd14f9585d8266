"""Words that replace one plain value (seed=5), and how they change a configuration that is plain already.

OmegaConf needs 2 ms to apply such a word and to resolve the whole configuration again. Most runs of a sweep
differ only in such words. So these words are applied to the plain configuration of the other words. The
result equals that of OmegaConf.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import AnyNode, DictConfig, OmegaConf

_PLAIN = (int, float, bool, str, type(None))
#: An interpolation that reads an environment variable, and nothing else of the configuration.
_OF_ENVIRONMENT = re.compile(r"\$\{oc\.env:\w+(,[\w./~-]*)?\}", re.ASCII)


def sets_plain_value(override: Override) -> bool:
    """Whether an override sets a key to a number, a text, true, false or null.

    `++key=value` counts: it does the same if the key exists. Additions (`+key=value`), deletions,
    interpolations and `???` do not count.
    """
    if override.type not in (OverrideType.CHANGE, OverrideType.FORCE_ADD) or override.package is not None:
        return False
    return _is_plain(override.value())


def has_plain_value(config: DictConfig, key: str) -> bool:
    """Whether a plain value stands at a dotted key, so that any other plain value may replace it.

    False for typed nodes, for interpolations, for missing values (`???`) and within lists.
    """
    node: Any = config
    for name in key.split("."):
        if not isinstance(node, DictConfig) or not _takes_anything(node):
            return False
        node = node._get_node(name, validate_access=False)
    return type(node) is AnyNode and not node._get_flag("readonly") and _is_plain(node._value())


def reads_no_other_key(config: DictConfig) -> bool:
    """Whether no value of a configuration follows from another one. Environment variables may be read."""
    return _reads_none(OmegaConf.to_container(config, resolve=False))


def replaced(tree: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy with another value at a dotted key that exists. Parts without the key are shared, not copied.

    >>> replaced({"norm": {"name": "bn", "eps": 1}, "seed": 0}, "norm.eps", 2)
    {'norm': {'name': 'bn', 'eps': 2}, 'seed': 0}
    """
    name, dot, below = key.partition(".")
    return {**tree, name: replaced(tree[name], below, value) if dot else value}


def _is_plain(value: object) -> bool:
    return type(value) in _PLAIN and not (isinstance(value, str) and ("${" in value or value == "???"))


def _takes_anything(node: DictConfig) -> bool:
    """Whether a node holds keys with values of any type."""
    special = node._is_none() or node._is_missing() or node._is_interpolation()
    typed = node._metadata.object_type not in (dict, None) or node._metadata.element_type is not Any
    return not (special or typed or node._get_flag("readonly"))


def _reads_none(node: Any) -> bool:
    if isinstance(node, dict):
        return all(map(_reads_none, node.values()))
    if isinstance(node, list):
        return all(map(_reads_none, node))
    return not isinstance(node, str) or "${" not in node or _OF_ENVIRONMENT.fullmatch(node) is not None
