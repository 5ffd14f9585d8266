"""Modes, credentials and settings."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from normbench.errors import InputError
from normbench.tracking import wandb_setup
from normbench.tracking.wandb_setup import (
    check_environment,
    has_api_key,
    minimal_settings,
    mode_of_environment,
)

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


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("WANDB_TAGS", "", "WANDB_TAGS='': Tag at index 0 is empty"),
        ("WANDB_TAGS", "a,,b", "Tag at index 1 is empty"),
        ("WANDB_TAGS", "x" * 65, "65 characters"),
        ("WANDB_PROJECT", "a/b", "Invalid project name"),
        ("WANDB_RUN_ID", "a/b", "Run ID cannot contain"),
        ("WANDB_SWEEP_ID", "", "Sweep ID cannot be empty"),
        ("WANDB_RESUME", "yes", "'allow', 'must', 'never' or 'auto'"),
        ("WANDB_MODE", "OFFLINE", "'online', 'offline'"),
        ("WANDB_INIT_TIMEOUT", "soon", "valid number"),
        ("WANDB_BASE_URL", "nowhere", "valid URL"),
        ("WANDB_API_KEY", " sesame", "whitespace"),
    ],
)
def test_a_variable_that_wandb_does_not_accept_is_refused_in_one_line(
    variable: str, value: str, words: str, no_credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError) as error:
        check_environment()
    text = str(error.value)
    assert text.startswith(f"wandb does not accept {variable}")
    assert words in text
    assert text.endswith("; correct it or unset it")
    assert "\n" not in text
    assert "sesame" not in text


def test_variables_that_wandb_accepts_are_accepted(agent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("MODE", "offline"),
        ("TAGS", "a,b"),
        ("RESUME", "allow"),
        ("NAME", "x"),
        ("NEW", "?"),
    ):
        monkeypatch.setenv(f"WANDB_{name}", value)
    check_environment()


def test_without_a_doubtful_variable_wandb_is_not_imported(
    no_credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setattr(wandb_setup, "import_module", pytest.fail)
    check_environment()


def test_an_absent_wandb_does_not_stop_training(agent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    check_environment()
