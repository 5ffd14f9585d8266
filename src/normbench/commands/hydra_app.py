"""Runs Hydra's own program, `hydra.main`, for the verb `train`.

All of Hydra's features work after the verb. Flags and words may stand in any order. Hydra's exceptions become
an InputError.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn

import hydra
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser

from normbench.commands.arguments import explain_arguments
from normbench.config.compose import open_arguments
from normbench.config.hydra_errors import explain, raised_by_hydra
from normbench.config.search_path import (
    CONFIG_NAME,
    CONFIG_PATH,
    VERSION_BASE,
    Loader,
    known_keys,
    own_config_dir,
)
from normbench.errors import InputError, NormbenchError

_COMMANDS = ("help", "hydra_help", "cfg", "info", "run", "multirun", "shell_completion")
_SWITCHES = ("help", "hydra_help", "resolve", "run", "multirun", "shell_completion")
_VALUES = ("cfg", "package", "config_path", "config_name", "config_dir", "info")


def parse_flags(argv: Sequence[str]) -> argparse.Namespace:
    """Hydra's flags, and the words between them as `overrides`.

    `reading_words` names the same runs to `normbench table`.

    `./conf` is searched for the user's own choices unless another folder is named. Every run goes through
    sweeper and launcher, a single one too, so there is one code path.

    Raises:
        InputError: Hydra does not have a flag, or two flags exclude each other.
    """
    with _python_3_14():
        parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        said = explain_arguments(message, parser._option_string_actions, takes_words=True)
        raise InputError(f"{said}; see normbench train --help")

    parser.error = refuse  # type: ignore[method-assign]
    flags = parser.parse_intermixed_args(list(argv))
    given = [_option(name) for name in _COMMANDS if getattr(flags, name)]
    if len(given) > 1:
        raise InputError(f"these flags exclude each other; give one of {', '.join(given)}")
    if flags.experimental_rerun:
        raise InputError(
            "--experimental-rerun is refused: it reads a pickle. normbench info RUN shows how to rerun a run"
        )
    flags.reading_words = _reading_words(flags)
    if flags.config_dir is None:
        flags.config_dir = own_config_dir()
    flags.multirun = not given or flags.multirun
    if flags.multirun:
        flags.overrides = open_arguments(flags.overrides)
    return flags


def _reading_words(flags: argparse.Namespace) -> list[str]:
    """The arguments of `normbench table` that name the runs of a train command.

    Empty if its words alone do not say which runs there are: another configuration, or settings of Hydra.
    """
    words: list[str] = flags.overrides
    if flags.config_name or flags.config_path or any(word.lstrip("+~").startswith("hydra") for word in words):
        return []
    return [*words, *(["--config-dir", flags.config_dir] if flags.config_dir else [])]


def call_hydra(flags: argparse.Namespace, task: Callable[[Any], Any]) -> None:
    """Run `hydra.main` on a task function.

    Raises:
        InputError: the words do not compose.
        RunFailure: a job failed. The others ran.
    """
    switches = [_option(name) for name in _SWITCHES if getattr(flags, name)]
    values = [f"{_option(name)}={value}" for name in _VALUES if (value := getattr(flags, name))]
    main = hydra.main(version_base=VERSION_BASE, config_path=CONFIG_PATH, config_name=CONFIG_NAME)(task)
    try:
        words = [*switches, *values, *flags.overrides]
        with _python_3_14(), _arguments(words), _errors_raised(), _choices_only(), _our_loader():
            main()
    except NormbenchError:
        raise
    except Exception as error:
        if not raised_by_hydra(error):
            raise
        raise explain(error, lambda: known_keys(flags.overrides, flags.config_dir)) from error


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


@contextmanager
def _arguments(argv: list[str]) -> Iterator[None]:
    """Set sys.argv, which Hydra reads. Its first word, the program's name, goes into completion scripts."""
    before = sys.argv
    sys.argv = [before[0], *argv]
    try:
        yield
    finally:
        sys.argv = before


@contextmanager
def _errors_raised() -> Iterator[None]:
    """Make Hydra raise its errors instead of printing them and exiting."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


@contextmanager
def _choices_only() -> Iterator[None]:
    """Let Hydra's help list only groups that a run chooses from: paper tables lie in `conf/`, too."""
    before = Hydra.format_config_groups

    def format_config_groups(self: Hydra, predicate: Callable[[str], bool], compact: bool = True) -> str:
        return before(self, lambda group: not group.startswith("paper") and predicate(group), compact)

    Hydra.format_config_groups = format_config_groups  # type: ignore[method-assign]
    try:
        yield
    finally:
        Hydra.format_config_groups = before  # type: ignore[method-assign]


@contextmanager
def _our_loader() -> Iterator[None]:
    """Let Hydra's program load configurations with our loader, and its checks."""
    program: Any = import_module("hydra._internal.hydra")
    before = program.ConfigLoaderImpl
    program.ConfigLoaderImpl = Loader
    try:
        yield
    finally:
        program.ConfigLoaderImpl = before


@contextmanager
def _python_3_14() -> Iterator[None]:
    """Let Hydra 1.3 give argparse a help object that is not a string, which Python 3.14 refuses."""
    check = getattr(argparse.ArgumentParser, "_check_help", None)
    if check is None:
        yield
        return
    argparse.ArgumentParser._check_help = lambda self, action: None  # type: ignore[attr-defined]
    try:
        yield
    finally:
        argparse.ArgumentParser._check_help = check  # type: ignore[attr-defined]
