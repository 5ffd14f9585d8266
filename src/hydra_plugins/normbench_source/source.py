"""Lets Hydra find choices that have no file: parts of plugins, and models of torchvision and timm."""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from normbench import parts
from normbench.config.choices import GROUPS


class NormbenchParts(ConfigSource):
    """The registry `normbench.parts` as a source of configurations: `norm/mine` is the norm of that name."""

    @staticmethod
    def scheme() -> str:
        return "normbench"

    def load_config(self, config_path: str) -> ConfigResult:
        group, name = _split(config_path)
        knobs = parts.knobs(group, name)
        if knobs is None:
            raise ConfigLoadError(f"Config not found : {config_path}")
        return ConfigResult(
            provider=self.provider,
            path=self.full_path(),
            config=OmegaConf.create(dict(knobs)),
            header={"package": None},
        )

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path in GROUPS

    def is_config(self, config_path: str) -> bool:
        return parts.knobs(*_split(config_path)) is not None

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        return parts.names(config_path) if results_filter != ObjectType.GROUP else []


class NormbenchSearchPath(SearchPathPlugin):
    """Adds the registry to the search path, after all folders: a file of the user's of that name wins."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="normbench", path=f"{NormbenchParts.scheme()}://parts")


def _split(config_path: str) -> tuple[str, str]:
    group, _, name = config_path.removesuffix(".yaml").rpartition("/")
    return group, name
