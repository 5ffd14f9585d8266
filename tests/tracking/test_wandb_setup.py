"""Modes, credentials and settings."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from normbench.tracking.wandb_setup import has_api_key, minimal_settings, mode_of_environment

SERVER = "https://api.wandb.ai"


@pytest.mark.parametrize(
    ("value", "mode"),
    [
        ("disabled", "disabled"),
        ("OFFLINE", "offline"),
        ("online", "online"),
        ("dryrun", "offline"),
        ("run", "online"),
        ("", None),
        ("nonsense", None),
    ],
)
def test_the_environment_may_choose_the_mode(
    value: str, mode: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", value)
    assert mode_of_environment() == mode


def test_a_key_is_found_in_the_environment(no_credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_api_key(SERVER)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert has_api_key(SERVER)


def test_a_key_is_found_in_netrc_for_its_server_alone(
    no_credentials: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "netrc"
    file.write_text("machine api.wandb.ai\n  login user\n  password key\n")
    monkeypatch.setenv("NETRC", str(file))
    assert has_api_key(SERVER)
    assert not has_api_key("https://wandb.example.org")


@pytest.mark.parametrize("text", ["machine", "\x00\xff"])
def test_a_broken_netrc_holds_no_key(
    text: str, no_credentials: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "netrc"
    file.write_bytes(text.encode("latin-1"))
    monkeypatch.setenv("NETRC", str(file))
    assert not has_api_key(SERVER)


def test_settings_that_the_installed_wandb_does_not_know_are_left_out(fake: SimpleNamespace) -> None:
    assert vars(minimal_settings(fake)).keys() == {"silent", "init_timeout", "base_url", "api_key"}
