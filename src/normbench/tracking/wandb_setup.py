"""The setup of wandb: its mode, its credentials, and settings for many short runs. It never prompts."""

from __future__ import annotations

import netrc
import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from normbench.errors import InputError

ONLINE, OFFLINE, DISABLED = "online", "offline", "disabled"
#: What brings the server up to date from the local records.
UPLOAD = "normbench sync, with the words of this command"
_LEGACY = {"dryrun": OFFLINE, "run": ONLINE}
_SECRET = re.compile("KEY|TOKEN|PROXY|HEADER")  # variables whose values are not shown

#: Runs start four times faster than with wandb's defaults. Our records hold environment and version.
_MINIMAL = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "finish_timeout": 20,  # s; less than WandbRuns waits
    "finish_timeout_raises": True,
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


def agent_run() -> str | None:
    """The id of the run for which a wandb agent, or wandb launch, started this command; None without one."""
    started = os.environ.get("WANDB_SWEEP_ID") or os.environ.get("WANDB_LAUNCH", "").lower() in ("true", "1")
    return os.environ.get("WANDB_RUN_ID") if started else None


def check_environment() -> None:
    """Refuse environment variables that wandb does not accept. With one of them, wandb tracks nothing.

    wandb itself judges them. It is imported only if there is a variable that cannot be judged without it.

    Raises:
        InputError: names the variable and wandb's reason.
    """
    doubtful = {k: v for k, v in os.environ.items() if k.startswith("WANDB_") and not _is_fine(k, v)}
    if not doubtful:
        return
    try:
        wandb = import_module("wandb")
    except ImportError:
        return  # the session reports it
    if not hasattr(wandb.Settings, "update_from_env_vars"):
        return  # another version of wandb
    for name, value in doubtful.items():
        try:
            wandb.Settings().update_from_env_vars({name: value})
        except Exception as error:
            given = name if _SECRET.search(name) else f"{name}={value!r}"
            raise InputError(
                f"wandb does not accept {given}: {_reason(error)}; correct it or unset it"
            ) from None


def _is_fine(name: str, value: str) -> bool:
    if name == "WANDB_MODE":
        return value in (ONLINE, OFFLINE, DISABLED, *_LEGACY)
    return name == "WANDB_API_KEY" and value == value.strip()


def _reason(error: Exception) -> str:
    """The first reason of a pydantic error, or the first line of another error."""
    if callable(details := getattr(error, "errors", None)):
        return str(details()[0]["msg"]).removeprefix("Value error, ")
    return str(error).partition("\n")[0]


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


def cause(error: Exception) -> str:
    """An error of wandb in one line. wandb gives no message if the server refuses the key.

    >>> cause(RuntimeError("Timed out\\nConsider increasing init_timeout"))
    'RuntimeError: Timed out'
    >>> cause(RuntimeError("<no message>"))
    'RuntimeError without a message; perhaps the server refuses the key'
    """
    message = str(error).strip().partition("\n")[0]
    if message in ("", "<no message>"):
        return f"{type(error).__name__} without a message; perhaps the server refuses the key"
    return f"{type(error).__name__}: {message[:200]}"


def minimal_settings(wandb: Any) -> Any:
    """`wandb.Settings` for many short runs. Settings that the installed version lacks are left out."""
    known = wandb.Settings.model_fields
    return wandb.Settings(**{key: value for key, value in _MINIMAL.items() if key in known})
