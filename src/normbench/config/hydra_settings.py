"""What a configuration may say to Hydra itself: nothing that imports code.

Hydra makes objects from `_target_` in the nodes launcher, sweeper and callbacks, calls what logging names,
and imports packages of a `pkg://` search path. A configuration is data: it may come from a colleague or a
download. So only targets of installed Hydra plugins are accepted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from omegaconf import DictConfig, OmegaConf

from normbench.errors import InputError

#: Nodes of which Hydra makes objects.
_MADE = ("launcher", "sweeper", "callbacks")
#: Classes that Hydra and its plugins offer, beside those of modules in `hydra_plugins`.
_TARGETS = re.compile(
    r"hydra\._internal\.core_plugins\.\w+\.\w+|hydra\.experimental\.callbacks\.\w+Callback"
    r"|optuna\.samplers\.\w+Sampler"
)
_LOG_CLASSES = re.compile(r"logging(\.handlers)?\.\w+(Handler|Formatter)|colorlog\.\w*Formatter")
_PACKAGES = ("pkg://normbench.conf", "pkg://hydra.conf", "pkg://hydra_plugins.")


def check_hydra(config: DictConfig) -> None:
    """Refuse settings of Hydra that would import code, or of a type that Hydra does not expect.

    Args:
        config: a composed configuration with the node `hydra`.

    Raises:
        InputError: the first such setting.
    """
    hydra = OmegaConf.to_container(config.hydra, resolve=False)
    assert isinstance(hydra, dict)
    for name in _MADE:
        node = hydra.get(name)
        if name != "callbacks" and not (isinstance(node, Mapping) and isinstance(node.get("_target_"), str)):
            raise InputError(f"hydra.{name} must be chosen as hydra/{name}=NAME; got hydra.{name}={node!r}")
        for path, target in _values(node, "_target_", f"hydra.{name}"):
            if not _known(target):
                raise InputError(
                    f"{path} must be a class of an installed Hydra plugin (hydra_plugins.…); got {target!r}; "
                    "a configuration imports nothing else"
                )
    params = hydra["sweeper"].get("params")
    if params is not None and not isinstance(params, Mapping):
        raise InputError(f"hydra.sweeper.params must be keys with values, such as batch: 2,8; got {params!r}")
    for name in ("job_logging", "hydra_logging"):
        _check_logging(hydra.get(name), f"hydra.{name}")
    _check_search_path(hydra.get("searchpath"))


def check_words(words: Sequence[str]) -> None:
    """Refuse a search path among override words that would import a package: Hydra opens it first.

    Raises:
        InputError: the path names a package other than those of normbench, Hydra and its plugins.
    """
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        if key.strip() == "hydra.searchpath":
            _check_search_path(re.findall(r"[^\s\[\],\"']+", value))


def _check_search_path(paths: Any) -> None:
    for path in paths if isinstance(paths, list) else []:
        if str(path).startswith("pkg://") and not str(path).startswith(_PACKAGES):
            raise InputError(
                f"hydra.searchpath must name folders (file://…); got {path}, which imports a package"
            )


def _known(target: Any) -> bool:
    if not isinstance(target, str):
        return False
    module, _, name = target.rpartition(".")
    if module.startswith("hydra_plugins.") and name.isidentifier():
        try:  # the class must be one of a plugin, not one that a plugin has imported
            return str(getattr(import_module(module), name).__module__).startswith("hydra_plugins.")
        except (ImportError, AttributeError, ValueError):
            return False
    return _TARGETS.fullmatch(target) is not None


def _check_logging(node: Any, path: str) -> None:
    for key in ("()", "class"):
        for place, target in _values(node, key, path):
            if not isinstance(target, str) or not _LOG_CLASSES.fullmatch(target):
                raise InputError(f"{place} must be a class of Python's logging; got {target!r}")
    for place, value in _texts(node, path):
        if value.startswith("ext://") and value not in ("ext://sys.stdout", "ext://sys.stderr"):
            raise InputError(f"{place} may be ext://sys.stdout or ext://sys.stderr; got {value}")


def _values(node: Any, wanted: str, path: str) -> Iterator[tuple[str, Any]]:
    """The values of a key at any depth, with their places."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == wanted:
                yield f"{path}.{key}", value
            yield from _values(value, wanted, f"{path}.{key}")
    elif isinstance(node, list):
        for value in node:
            yield from _values(value, wanted, path)


def _texts(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """All texts below a node, with their places."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _texts(value, f"{path}.{key}")
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value, path)
    elif isinstance(node, str):
        yield path, node
