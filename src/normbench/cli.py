"""The command `normbench VERB …`: calls the verb's module; exceptions become one line and an exit code.

    0 fine · 1 a run failed, or an asserted claim is refuted · 2 bad input
    130 interrupted · 143 ended by SIGTERM · 129 the terminal was closed

A verb is a module of `normbench.commands` with `run(argv) -> exit code`. It is imported only when called, so
that `--help` answers fast.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import NoReturn, TextIO

from normbench import __version__
from normbench.commands import VERBS
from normbench.commands.streams import drop_if_closed, leave_ascii, never_raise, open_closed, unwritable
from normbench.errors import KEPT, InputError, Interrupted, NormbenchError, unknown
from normbench.ranks import launched
from normbench.uncollected import uncollected
from normbench.visible import visible

HELP = """normbench: normalization ablations, with error bars

usage: normbench VERB …        more: normbench VERB --help

{verbs}

  --plugin M  load your own norms, models, data sets or diagnostics: a module or a file; may be repeated
  --debug     show the traceback of an error
  --version   print the version
  -h, --help  print this

A first look:
  normbench train norm=bn batch=2
  normbench train norm=bn,gn,ln_chw batch=2,8,32 'seed=range(3)'
  normbench table --rows norm --cols batch

Tab completion: eval "$(normbench -sc install=bash)"
"""

INTERRUPTED = 130
#: Verbs that only read and end in seconds.
READING = ("table", "status", "runs", "plan", "info")


def main() -> NoReturn:
    """The entry point of the installed command."""
    open_closed()
    leave_ascii(sys.argv[1:])
    never_raise()
    logging.raiseExceptions = False  # if a library cannot write its log, print no traceback
    sys.exit(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """Run one command line, given without the program's name; return the exit code. Errors go to stderr."""
    debug = "--debug" in argv
    try:
        code = _on_ranks(partial(_dispatch, [word for word in argv if word != "--debug"]))
        sys.stdout.flush()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except KeyboardInterrupt as end:
        with suppress(OSError):  # the terminal may be closed
            _complain(str(end) or f"interrupted; {KEPT}", debug)
        if not isinstance(end, Interrupted):
            return INTERRUPTED
        drop_if_closed()
        return end.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise the last flush fails too
        return 1
    except NormbenchError as error:
        _complain(str(error), debug)
        return error.exit_code
    except Exception as error:
        if why := unwritable(error):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # as above
            _complain(f"cannot write to standard output: {why}", debug)
            return 1
        if why := _too_little_memory(error):
            _complain(f"too little memory: {why}; ask for less, or free some", debug)
            return 1
        hint = "" if debug else "; --debug shows where"
        _complain(f"unexpected {type(error).__name__}: {error}{hint}", debug)
        return 1
    return code


def _on_ranks(command: Callable[[], int]) -> int:
    """Run the command; under torchrun, in rank 0, and let the other ranks train with it."""
    together = launched()
    if together.count == 1:
        return command()
    from normbench.commands.torchrun import run_on

    return run_on(together, command)


def _dispatch(words: Sequence[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP.format(verbs="\n".join(f"  {verb:<11} {line}" for verb, line in VERBS.items())), end="")
        return 0
    if "--version" in words:
        print(f"normbench {__version__}")
        return 0
    verb, rest = words[0], words[1:]
    if verb in ("-sc", "--shell-completion"):
        verb_module = "normbench.commands.completion"
    elif verb in VERBS:
        verb_module = f"normbench.commands.{verb.replace('-', '_')}"
    elif "=" in verb:
        raise InputError(f"a verb must come first; got '{verb}'; perhaps: normbench train {' '.join(words)}")
    else:
        raise unknown("verb", verb, VERBS, remedy="see normbench --help")
    _check_folder()
    if verb in VERBS:
        rest = _load_plugins(rest)
    verb_run: Callable[[Sequence[str]], int] = import_module(verb_module).run
    if verb not in READING:
        return verb_run(rest)
    with uncollected():
        return verb_run(rest)


def _load_plugins(words: Sequence[str]) -> list[str]:
    """Load the plugins that the words, the environment and installed packages name; return the other words.

    A request for help loads none, so that it answers at once.
    """
    from normbench.plugins import loading

    rest, named = loading.split_flags(words)
    if not {"-h", "--help"} & set(rest):
        for line in loading.load_all(named):
            print(visible(f"warning: {line}"), file=sys.stderr)
    return rest


def _too_little_memory(error: Exception) -> str:
    """What could not be allocated; empty if the error has another cause. torch raises a RuntimeError."""
    text = str(error).partition("you tried to allocate")
    if isinstance(error, MemoryError):
        return str(error) or "an allocation failed"
    return f"cannot allocate{text[2]}" if isinstance(error, RuntimeError) and text[1] else ""


def _check_folder() -> None:
    """Refuse to work in a folder that was removed: no relative path leads anywhere.

    Raises:
        InputError: the current folder does not exist.
    """
    try:
        Path.cwd()
    except OSError as error:
        raise InputError(
            f"the current folder is gone ({error.strerror}); change to one that exists"
        ) from None


def _complain(text: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    line = visible("error: " + " ".join(text.split()))
    print(f"\033[31m{line}\033[0m" if _in_colour(sys.stderr) else line, file=sys.stderr)


def _in_colour(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
