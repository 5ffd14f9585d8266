"""The setup of wandb: its mode, its credentials, and settings for many short runs. It never prompts."""

from __future__ import annotations

import netrc
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ONLINE, OFFLINE, DISABLED = "online", "offline", "disabled"
_LEGACY = {"dryrun": OFFLINE, "run": ONLINE}

#: Runs start four times faster than with wandb's defaults. Our records hold environment and version.
_MINIMAL = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "finish_timeout": 25,  # s; less than WandbRuns waits
    "init_timeout": 10,  # s
    "silent": True,
    "symlink": False,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}


def mode_of_environment() -> str | None:
    """The mode in WANDB_MODE, which wins over the configuration; None if WANDB_MODE names no mode."""
    asked = os.environ.get("WANDB_MODE", "").lower()
    mode = _LEGACY.get(asked, asked)
    return mode if mode in (ONLINE, OFFLINE, DISABLED) else None


def has_api_key(base_url: str) -> bool:
    """Whether the environment or a netrc file holds credentials for a server."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    for file in [os.environ["NETRC"]] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]:
        try:
            if netrc.netrc(Path(file).expanduser()).authenticators(urlsplit(base_url).netloc):
                return True
        except (OSError, UnicodeError, netrc.NetrcParseError):
            continue
    return False


def minimal_settings(wandb: Any) -> Any:
    """`wandb.Settings` for many short runs. Settings that the installed version lacks are left out."""
    known = wandb.Settings.model_fields
    return wandb.Settings(**{key: value for key, value in _MINIMAL.items() if key in known})
