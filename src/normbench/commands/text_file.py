"""Text that commands write to files that a user names and to standard output; UTF-8 whatever the locale."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

from normbench.errors import InputError
from normbench.files import write_atomically


def check_writable(file: Path, option: str) -> None:
    """Refuse a file that cannot be written, before any work is done. Nothing is created.

    Raises:
        InputError: its place is a folder, lies below a file, or must not be written to.
    """
    nearest = next(place for place in (file.absolute(), *file.absolute().parents) if os.path.lexists(place))
    if file.is_dir():
        raise InputError(f"{option} must be a file; '{file}' is a folder; add a file name")
    if nearest != file.absolute() and not nearest.is_dir():
        raise InputError(f"{option} must lie in a folder; '{nearest}' is a file; give another place")
    if not os.access(nearest, os.W_OK):
        raise InputError(f"{option} must be writable; '{nearest}' is not; give another place")


def write(file: Path, content: str | bytes) -> None:
    """Write a file, and its folder if there is none. Text is UTF-8.

    Raises:
        InputError: it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists() and not file.is_file():  # a pipe or a device cannot be replaced by a rename
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        else:
            write_atomically(file, content)
    except OSError as error:
        raise InputError(f"cannot write {file}: {error.strerror or error}; give another file") from None


def print_file(text: str) -> None:
    """Print the contents of a file. A pipe or a redirection gets UTF-8, as a file written by `write` does."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    print(text, end="")
