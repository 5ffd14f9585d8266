"""What saving a dashboard needs: the package wandb-workspaces, a key, and an entity."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec

from normbench.errors import InputError, NormbenchError, RunFailure, reason
from normbench.tracking.wandb_core import end_wandb
from normbench.tracking.wandb_setup import has_api_key

MISSING = "normbench dashboard needs wandb-workspaces: pip install 'normbench[dashboard]'"


def check_installed() -> None:
    """Refuse to go on if wandb or wandb-workspaces is missing.

    Raises:
        InputError: says how to install them.
    """
    if find_spec("wandb") is None or find_spec("wandb_workspaces") is None:
        raise InputError(MISSING)


def check_account() -> None:
    """Refuse to go on without a key. It never prompts.

    Raises:
        InputError: there is no key for the server.
    """
    wandb = import_module("wandb")
    settings = wandb.setup(settings=wandb.Settings(silent=True)).settings
    if not (settings.api_key or has_api_key(settings.base_url)):
        raise InputError(
            f"wandb has no API key for {settings.base_url}: wandb login, or set WANDB_API_KEY; "
            "--json needs none"
        )


def entity_of_key() -> str:
    """The user or team that the key belongs to.

    Raises:
        RunFailure: the server does not say it.
    """
    found = import_module("wandb").Api().default_entity
    if not found:
        raise RunFailure("wandb names no entity for this key; give --entity")
    return str(found)


@contextmanager
def one_line(what: str) -> Iterator[None]:
    """Turn errors of wandb into one line, and end its process.

    Raises:
        RunFailure: wandb raised an error.
    """
    try:
        yield
    except NormbenchError:
        raise
    except Exception as error:  # wandb, pydantic and requests have no common base
        raise RunFailure(f"wandb did not save the {what}: {reason(error)}") from error
    finally:
        end_wandb()
