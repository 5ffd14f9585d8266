"""What no configuration may hold: plugins, and texts that no record can hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from normbench.config.grammar import check_text
from normbench.errors import InputError


def refuse_plugins(tree: Mapping[str, Any]) -> None:
    """Refuse a plugin that a configuration names, because a configuration must not run code.

    Raises:
        InputError: it names one.
    """
    for key in ("plugin", "plugins"):
        if key in tree:
            raise InputError(
                f"a configuration cannot name plugins, because it must not run code; got {key}={tree[key]}. "
                "Use --plugin MODULE on the command line, or set NORMBENCH_PLUGINS"
            )


def check_texts(node: Any) -> None:
    """Refuse texts anywhere in a configuration that no record can hold.

    Raises:
        InputError: names the first one.
    """
    if isinstance(node, str):
        check_text(node)
    elif isinstance(node, Mapping):
        for key, value in node.items():
            check_text(key)
            check_texts(value)
    elif isinstance(node, list):
        for value in node:
            check_texts(value)
