"""Hydra's configuration loader for normbench's configuration, and the keys that exist there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import setup_globals
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from normbench.config.hydra_errors import explained
from normbench.config.hydra_settings import check_hydra, check_words
from normbench.config.own_files import read_own_files
from normbench.config.sweep_size import Confirmation, count, limit
from normbench.errors import InputError

CONFIG_PATH = "pkg://normbench.conf"
CONFIG_NAME = "config"
VERSION_BASE = "1.3"
_HYDRAS_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


class Loader(ConfigLoaderImpl):
    """Hydra's loader. It reads a user's files within limits, and refuses settings that import code."""

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        read_own_files()
        super().__init__(config_search_path)

    def load_configuration(
        self, config_name: str | None, overrides: list[str], run_mode: RunMode, *args: Any, **kwargs: Any
    ) -> DictConfig:
        """As in Hydra.

        Raises:
            InputError: see `check_hydra`.
        """
        check_words(overrides)
        config = super().load_configuration(config_name, overrides, run_mode, *args, **kwargs)
        check_hydra(config)
        sweeps = run_mode is RunMode.MULTIRUN and kwargs.get("validate_sweep_overrides", True)
        if sweeps and config.hydra.sweeper._target_ == _HYDRAS_SWEEPER:  # ours counts its jobs itself
            words = [word for word in overrides if not word.lstrip("+~").startswith("hydra")]
            parsed = OverridesParser.create(config_loader=self).parse_overrides(words)
            Confirmation(limit(parsed, config)).check(count(parsed))
        return config


def open_loader(config_dir: str | None = None) -> ConfigLoader:
    """A loader with the search path of `normbench train`.

    Args:
        config_dir: a folder with the user's own choices; it is searched too.

    Raises:
        InputError: config_dir is not a folder.
    """
    version.setbase(VERSION_BASE)
    setup_globals()
    search_path = create_config_search_path(CONFIG_PATH)
    if config_dir is not None:
        folder = Path(config_dir).absolute()
        if not folder.is_dir():
            raise InputError(f"--config-dir must be a folder; there is none at '{config_dir}'")
        search_path.prepend(
            provider="command-line", path=f"file://{folder}", anchor=SearchPathQuery(provider="schema")
        )
    return Loader(search_path)


def own_config_dir() -> str | None:
    """`./conf`, the folder of the user's own choices. None if it does not exist or is the packaged one."""
    folder, packaged = Path("conf"), Path(__file__).parents[1] / "conf"
    return str(folder) if folder.is_dir() and not folder.samefile(packaged) else None


def known_keys(words: Sequence[str], config_dir: str | None = None) -> list[str]:
    """The keys that exist if the group choices among `words` are made."""
    loader = open_loader(config_dir)
    parser = OverridesParser.create()
    with explained():
        groups = [w for w in words if loader.get_group_options(parser.parse_override(w).key_or_group)]
        return dotted_keys(loader.load_configuration(CONFIG_NAME, groups, RunMode.MULTIRUN))


def dotted_keys(config: DictConfig) -> list[str]:
    """The dotted names of all nodes of a configuration, without Hydra's own."""
    tree = OmegaConf.to_container(config, resolve=False)
    assert isinstance(tree, dict)
    return [key for name in tree if name != "hydra" for key in _dotted(str(name), tree[name])]


def _dotted(name: str, node: Any) -> list[str]:
    below = node if isinstance(node, dict) else {}
    return [name, *(key for child in below for key in _dotted(f"{name}.{child}", below[child]))]
