"""Hydra reads and merges the packaged files once per process. A test that asks again gets a copy.

Hydra needs about 75 ms to compose one configuration. Thousands of tests compose, many of them the same words.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.default_element import ResultDefault
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime
from hydra.plugins.config_source import ConfigSource
from omegaconf import DictConfig, OmegaConf

from normbench import parts

#: Hydra's own function, which composes anew.
FRESH = ConfigLoaderImpl._load_configuration_impl
#: Sources that are the same throughout a process. A folder of the user's own may change.
LASTING = {"pkg", "structured", "normbench"}
#: Keys of Hydra whose effect depends on more than the words: on folders, on the environment.
OUTSIDE = ("hydra.searchpath", "hydra.job.env_copy")


class Memory:
    """Copies of what was made under a key. The `most` latest are kept, of about 20 kB each."""

    def __init__(self, most: int = 500) -> None:
        self._most = most
        self._known: OrderedDict[Hashable, bytes] = OrderedDict()

    def recall(self, key: Hashable, make: Callable[[], Any]) -> Any:
        if key not in self._known:
            self._known[key] = pickle.dumps(make())
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return pickle.loads(self._known[key])


def remember(patch: pytest.MonkeyPatch) -> None:
    """Keep what Hydra reads, merges and composes, until the patch is undone."""
    Plugins.instance()  # registers the sources
    package = SourcesRegistry.instance().resolve("pkg")
    read, merge = package.load_config, ConfigLoaderImpl._compose_config_from_defaults_list
    files, merged, composed = Memory(), Memory(), Memory()

    def load_config(self: ConfigSource, config_path: str) -> Any:
        return files.recall((named([self]), config_path), lambda: read(self, config_path))

    def compose(self: ConfigLoaderImpl, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        if not lasting(repo.get_sources()):
            return merge(self, defaults, repo)
        key = (named(repo.get_sources()), *map(repr, defaults))
        config: DictConfig = merged.recall(key, lambda: merge(self, defaults, repo))
        return config

    def load(
        self: ConfigLoaderImpl, config_name: str, overrides: list[str], *how: Any, **more: Any
    ) -> DictConfig:
        if not lasting(self.get_sources()) or any(key in word for word in overrides for key in OUTSIDE):
            return FRESH(self, config_name, overrides, *how, **more)
        job = OmegaConf.select(JobRuntime().conf, "name")
        asked = (config_name, tuple(overrides), how, *sorted(more.items()))
        key = (named(self.get_sources()), asked, job, version.getbase())
        config: DictConfig = composed.recall(key, lambda: FRESH(self, config_name, overrides, *how, **more))
        config.hydra.runtime.cwd = str(Path.cwd())
        return config

    patch.setattr(package, "load_config", load_config)
    patch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", compose)
    patch.setattr(ConfigLoaderImpl, "_load_configuration_impl", load)


def forget(patch: pytest.MonkeyPatch) -> None:
    """Let Hydra read, merge and compose anew, until the patch is undone."""
    patch.setattr(Memory, "recall", lambda self, key, make: make())


def lasting(sources: Iterable[ConfigSource]) -> bool:
    """Whether the same words compose the same configuration again: without folders and without plugins."""
    return {source.scheme() for source in sources} <= LASTING and not parts.everything()


def named(sources: Sequence[ConfigSource]) -> tuple[tuple[str, str, str], ...]:
    return tuple((source.provider, source.path, source.scheme()) for source in sources)
