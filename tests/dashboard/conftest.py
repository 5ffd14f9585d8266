"""A server on this machine that speaks as much of wandb as views and reports need."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import suppress

import pytest

from wandb_loopback import Server, serving

with warnings.catch_warnings(), suppress(ImportError):  # the tests skip without it
    warnings.simplefilter("ignore", DeprecationWarning)  # its own use of pydantic
    import wandb_workspaces.workspaces  # noqa: F401


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server, with a key for it in the environment."""
    with serving(monkeypatch) as server:
        yield server
