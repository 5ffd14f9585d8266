"""Hydra parses a word, and reads and merges the packaged files, once per process. Then tests get copies.

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
from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.defaults_list import DefaultsList, create_defaults_list
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
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
    parse, read = OverridesParser.parse_rule, package.load_config
    choose, merge = create_defaults_list, ConfigLoaderImpl._compose_config_from_defaults_list
    words, files, chosen, merged, composed = (Memory() for _ in range(5))

    def parse_rule(self: OverridesParser, s: str, rule_name: str) -> Any:
        if "shuffle" in s:  # at random
            return parse(self, s, rule_name)
        return words.recall((s, rule_name), lambda: parse(self, s, rule_name))

    def load_config(self: ConfigSource, config_path: str) -> Any:
        return files.recall((named([self]), config_path), lambda: read(self, config_path))

    def choices(
        repo: IConfigRepository, config_name: str, overrides_list: list[Override], **how: bool
    ) -> DefaultsList:
        """The files of the groups' choices. Hydra leaves lists to sweep out, and passes plain values on."""
        if not lasting(repo.get_sources()):
            return choose(repo, config_name, overrides_list, **how)
        single = [each for each in overrides_list if not each.is_sweep_override()]
        values = [e for e in single if isinstance(e.value(), dict) or not repo.group_exists(e.key_or_group)]
        groups = [each for each in single if not any(each is value for value in values)]
        asked = (config_name, *(each.input_line for each in groups), *sorted(how.items()))
        key = (named(repo.get_sources()), asked)
        made: DefaultsList = chosen.recall(key, lambda: choose(repo, config_name, groups, **how))
        made.config_overrides[:] = values
        return made

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

    patch.setattr(OverridesParser, "parse_rule", parse_rule)
    patch.setattr(package, "load_config", load_config)
    patch.setattr(config_loader_impl, "create_defaults_list", choices)
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
