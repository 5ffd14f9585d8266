"""Hydra under the verb: its flags in any order, its help, its completion, and Python 3.14."""

from __future__ import annotations

import argparse
import os
import sys

import pytest

from normbench import cli
from normbench.commands.hydra_app import parse_flags
from normbench.errors import InputError

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    "argv",
    [
        ["norm=gn", "--cfg", "job", "batch=2"],
        ["--cfg=job", "norm=gn", "batch=2"],
        ["norm=gn", "batch=2", "-c", "job"],
    ],
)
def test_flags_may_stand_anywhere(argv: list[str], capsys: Capture) -> None:
    assert cli.run(["train", *argv]) == 0
    said = capsys.readouterr().out
    assert said.startswith("batch: 2\n")
    assert "name: gn" in said


def test_a_part_of_the_configuration_can_be_shown_resolved(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NORMBENCH_DATA", "/somewhere")
    assert cli.run(["train", "data=mnist", "--cfg", "job", "-p", "data", "--resolve"]) == 0
    assert "root: /somewhere" in capsys.readouterr().out


def test_plugins_are_found(capsys: Capture) -> None:
    assert cli.run(["train", "--info", "plugins"]) == 0
    said = capsys.readouterr().out
    assert "NormbenchLauncher" in said
    assert "NormbenchSweeper" in said


def test_help_shows_groups_keys_and_examples(capsys: Capture) -> None:
    assert cli.run(["train", "--help"]) == 0
    said = capsys.readouterr().out
    assert "[bn]" in said
    assert "images per worker and step" in said
    assert "normbench train norm=bn batch=2" in said


def test_help_lists_the_keys_of_a_group_without_a_choice(capsys: Capture) -> None:
    assert cli.run(["train", "--help"]) == 0
    said = capsys.readouterr().out
    assert "[auto]" not in said
    assert "engine.* device, precision, lanes" in said
    assert "paper" not in said


def test_help_beside_words_is_hydras_with_those_words(capsys: Capture) -> None:
    assert cli.run(["train", "norm=gn", "--help"]) == 0
    said = capsys.readouterr().out
    assert "num_groups: null" in said
    assert "Powered by Hydra" in said or "Configuration groups" in said
    assert "paper" not in said.partition("== Config ==")[0]


def test_runs_go_through_the_launcher_and_shows_do_not() -> None:
    assert parse_flags(["batch=2"]).multirun
    assert parse_flags(["-m", "batch=2,4"]).multirun
    assert not parse_flags(["--cfg", "job"]).multirun
    assert not parse_flags(["--run"]).multirun


def test_a_pickle_is_never_read() -> None:
    with pytest.raises(InputError, match="reads a pickle"):
        parse_flags(["--experimental-rerun", "job.pickle"])


def test_the_process_is_left_as_it_was(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    before = list(sys.argv)
    cli.run(["train", "--cfg", "job"])
    cli.run(["train", "nrom=bn"])
    assert sys.argv == before
    assert "HYDRA_FULL_ERROR" not in os.environ


def test_hydra_starts_under_python_3_14(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Python 3.14 formats the help of every argument as it is defined; Hydra gives one that is no text."""

    def check_help(self: argparse.ArgumentParser, action: argparse.Action) -> None:
        if action.help and "%" not in action.help:  # TypeError for what is no text
            action.help.format()

    define = argparse.ArgumentParser.add_argument

    def add_argument(self: argparse.ArgumentParser, *args: object, **kwargs: object) -> argparse.Action:
        action = define(self, *args, **kwargs)
        self._check_help(action)
        return action

    monkeypatch.setattr(argparse.ArgumentParser, "_check_help", check_help, raising=False)
    monkeypatch.setattr(argparse.ArgumentParser, "add_argument", add_argument)
    assert cli.run(["train", "--cfg", "job"]) == 0
    assert argparse.ArgumentParser._check_help is check_help
    from hydra._internal.utils import get_args_parser

    with pytest.raises(TypeError):  # so the guard was needed
        get_args_parser()
