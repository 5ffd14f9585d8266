"""The page of `normbench train --help`, made from the files of `conf/` alone.

Hydra's own help composes the configuration, which takes half a second. It answers if words stand beside
--help.
"""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from textwrap import indent

import yaml

FLAGS = """\
  --cfg job          print the configuration of the words, train nothing
  --info [defaults]  print how it is composed; also: plugins, searchpath, config
  --config-dir DIR   also search DIR for your own choices (default: ./conf if it exists)
  --plugin M         load your own norms, models, data sets or diagnostics: a module or a file
  WORDS --help       all keys and values for these words
  --hydra-help       Hydra's other flags"""


def page() -> str:
    """All that can follow `normbench train`: groups with their choices, keys, flags, examples."""
    conf = files("normbench.conf")
    text = (conf / "config.yaml").read_text(encoding="utf-8")
    config = yaml.safe_load(text)
    defaults = [entry for entry in config["defaults"] if isinstance(entry, dict)]
    chosen = {group: choice for entry in defaults for group, choice in entry.items() if " " not in group}
    options = {group: _options(conf / group) for group in chosen}
    groups = [
        f"  {group:<10} {' '.join(f'[{name}]' if name == chosen[group] else name for name in names)}"
        for group, names in options.items()
        if len(names) > 1
    ]
    settings = [  # a group with one file is no choice; its keys are what can be set
        f"{group}.* {', '.join(_keys(conf / group / f'{names[0]}.yaml'))}"
        for group, names in options.items()
        if len(names) == 1
    ]
    keys = text.partition("\n\n")[2].partition("\nhydra:")[0].rstrip()
    help_ = config["hydra"]["help"]
    return "\n".join([
        help_["header"], "", f"usage: {help_['app_name']} [group=choice | key=value …] [flags]", "",
        "groups, the default in brackets:", *groups, "",
        "keys; those of a group are written group.key=value:", indent(keys, "  "), "",
        *(f"  {line}" for line in settings), "",
        "flags:", FLAGS, "", help_["footer"].rstrip(),
    ])  # fmt: skip


def _options(folder: Traversable) -> list[str]:
    return sorted(file.name[:-5] for file in folder.iterdir() if file.name.endswith(".yaml"))


def _keys(file: Traversable) -> list[str]:
    return list(yaml.safe_load(file.read_text(encoding="utf-8")))
