"""How Hydra reads a user's own configuration files: regular files, within the limits of `yaml_limits`."""

from __future__ import annotations

import os
from pathlib import Path

from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig

from normbench.errors import InputError
from normbench.yaml_limits import check_yaml


class FileConfigSource(file_config_source.FileConfigSource):
    """A folder of configuration files. A pipe would never answer, and an alias bomb would fill the memory.

    It has the name of Hydra's class, because Hydra registers one class name per scheme.
    """

    def load_config(self, config_path: str) -> ConfigResult:
        """Read one file.

        Raises:
            InputError: it is no regular file, it cannot be read, a limit is passed, or it holds no mapping.
        """
        file = Path(os.path.realpath(Path(self.path) / self._normalize_file_name(config_path)))
        if file.exists() and not file.is_file():
            raise InputError(f"{file} must be a file; it is a folder, a pipe or a device")
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read {file}: {error}") from None
        check_yaml(text, str(file))
        result = super().load_config(config_path)
        if not isinstance(result.config, DictConfig):
            raise InputError(f"{file} must hold keys with values (key: value); it holds a list")
        return result


def read_own_files() -> None:
    """Let Hydra's loaders of this process read files within limits."""
    SourcesRegistry.instance().types["file"] = FileConfigSource
