"""Text in and out of the process, whatever the locale: words are read as UTF-8, output never raises."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

_HANDLER = "normbench.spelled"
#: ASCII for the characters that tables and help use.
_SPELLED = {
    "±": "+-", "–": "-", "−": "-", "—": "-", "·": "|", "×": "x", "≤": "<=", "≥": ">=", "→": "->", "…": "...",
    "│": "|", "─": "-", "━": "-", "²": "^2", "μ": "mu", "σ": "sigma", "γ": "gamma", "β": "beta", "ε": "eps",
    "’": "'", "“": '"', "”": '"',
}  # fmt: skip


def leave_ascii(words: Sequence[str]) -> None:
    """Restart in Python's UTF-8 mode if words and file names are read as ASCII.

    Python sets this mode by itself in the C locale, unless PYTHONUTF8=0 forbids it. Without it a class folder
    called `größe` cannot be named in a record.
    """
    if sys.getfilesystemencoding() == "ascii" and not sys.flags.utf8_mode and sys.executable:
        os.execve(
            sys.executable, [sys.executable, "-m", "normbench", *words], {**os.environ, "PYTHONUTF8": "1"}
        )


def open_closed() -> None:
    """Send what a command prints to nowhere if the shell closed the stream (`>&-`). Python has None there."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - open until the end


def unwritable(error: BaseException) -> str:
    """Why standard output takes nothing more, such as a full disk; empty if the error has another cause."""
    if not isinstance(error, OSError) or error.errno not in (
        errno.ENOSPC,
        errno.EIO,
        errno.EFBIG,
        errno.EDQUOT,
    ):
        return ""
    try:
        os.write(sys.stdout.fileno(), b"\n")  # after a failed flush, another one says nothing
    except OSError as again:
        return again.strerror or str(again)
    return ""


def drop_if_closed() -> None:
    """Drop what standard output still holds if its terminal is gone, so that the exit code is kept."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def never_raise() -> None:
    """Let standard output and standard error spell what their encoding cannot write.

    >>> codecs.register_error(_HANDLER, _spell)
    >>> "2.1 ± 0.1 ≥ Größe".encode("ascii", _HANDLER)
    b'2.1 +- 0.1 >= Gr\\\\xf6\\\\xdfe'
    """
    codecs.register_error(_HANDLER, _spell)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_SPELLED.get(char) or _escaped(char) for char in text), error.end


def _escaped(char: str) -> str:
    return char.encode("ascii", "backslashreplace").decode("ascii")
