"""The errors that a user can see, with their exit codes.

    NormbenchError
    ├── InputError      the command is not valid; nothing was trained    exit 2
    │   └── NormError   a norm does not fit its arguments or its input   exit 2
    └── RunFailure      a run failed, or a claim does not hold           exit 1
        └── StoreFailure   no result can be written any more             exit 1

    Interrupted         a signal asked the command to end                exit 128 + signal

A message says what must hold, what was given, and what to do. It offers the nearest valid names.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from normbench.synonyms import meant

#: The end of the message of a command that was asked to end.
KEPT = "finished runs are kept, and the same command continues with the others"


class NormbenchError(Exception):
    """Base of all errors raised on purpose. Shown as one line, without a traceback."""

    exit_code = 1


class InputError(NormbenchError, ValueError):
    """Bad input: nothing was trained and nothing was written."""

    exit_code = 2


class NormError(InputError):
    """A norm layer got invalid arguments or an input of the wrong shape."""


class RunFailure(NormbenchError):
    """A run failed although its input is valid, or a claim that the user asked to check does not hold."""


class StoreFailure(RunFailure):
    """The results folder takes nothing more. Every other run would fail likewise, so the sweep ends."""


class RanksParted(RunFailure):
    """One rank of torchrun has failed or is lost. The others cannot go on without it, so the command ends."""


class Interrupted(KeyboardInterrupt):
    """A signal asked the command to end: Ctrl-C, SIGTERM, or SIGHUP from a closed terminal.

    Args:
        signal:  its number.
        message: one line: what is kept and how to go on.
    """

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal


def reason(error: Exception) -> str:
    """An error in one line: the first line of its message, after its type if it was not raised on purpose.

    >>> reason(ValueError("no such thing\\nand more of it")), reason(KeyError()), reason(RunFailure("gone"))
    ('ValueError: no such thing', 'KeyError', 'gone')
    """
    first = next(iter(str(error).strip().splitlines()), "")
    return (
        first if isinstance(error, NormbenchError) else f"{type(error).__name__}: {first}".removesuffix(": ")
    )


def unknown(
    kind: str, given: object, known: Iterable[str], *, beyond: Iterable[str] = (), remedy: str = ""
) -> InputError:
    """An InputError for an unknown name. It offers the nearest names by meaning, else by spelling.

    >>> str(unknown("norm", "bm", ["bn", "gn", "ln_c"]))
    "unknown norm 'bm'; nearest: bn (all: bn, gn, ln_c)"
    >>> str(unknown("norm", "GroupNorm", ["bn", "gn", "ln_c"]))
    "unknown norm 'GroupNorm'; nearest: gn (all: bn, gn, ln_c)"

    Args:
        kind:   what the name should be, such as "norm".
        given:  the name that does not exist.
        known:  the names that exist; at most 40 are listed.
        beyond: further names, offered only if their meaning fits.
        remedy: what to do, last in the message.
    """
    names = sorted(set(known))
    near = meant(given, [*names, *beyond]) or get_close_matches(str(given), names, n=3, cutoff=0.4)
    hint = f"; nearest: {', '.join(near)}" if near else ""
    listing = f" (all: {', '.join(names)})" if names and len(names) <= 40 else ""
    return InputError(f"unknown {kind} '{given}'{hint}{listing}" + (f"; {remedy}" if remedy else ""))
