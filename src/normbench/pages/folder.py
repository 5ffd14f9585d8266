"""The folder of a report. It replaces an earlier report and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from normbench.errors import InputError
from normbench.files import try_writing

#: Lists the files of the report, so that the next one can remove them.
MANIFEST = ".normbench-report.json"


def check(folder: Path) -> None:
    """Refuse a folder that a report cannot be written to, before any work is done. Nothing is created.

    Raises:
        InputError: it is a file, holds something other than a report, or cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out must be a folder; '{folder}' is a file; give another place")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise InputError(
            f"--out must be empty or hold an earlier report; '{folder}' does not; give another folder"
        )
    try:
        try_writing(folder)
    except OSError as error:
        raise InputError(
            f"--out must be writable; '{folder}' is not: {error.strerror or error}; give another place"
        ) from None


def write(files: Mapping[str, str | bytes], folder: Path) -> None:
    """Write the files of a report and remove those of the report before it.

    Args:
        files: contents by path below the folder, with /.

    Raises:
        InputError: see `check`, or the disk is full.
    """
    check(folder)
    before = _listed(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _note(folder, {*before, *files})  # an interrupted report is still known as one
        for name, content in files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        for name in before - files.keys():
            (folder / name).unlink(missing_ok=True)
        _note(folder, set(files))
    except OSError as error:
        raise InputError(
            f"cannot write the report to {folder}: {error.strerror or error}; give another folder"
        ) from None


def _listed(folder: Path) -> set[str]:
    """The files of the report before; only those that lie in the folder."""
    try:
        names = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return set()
    inside = folder.resolve()
    listed = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    return {name for name in listed if (folder / name).resolve().is_relative_to(inside) and name != MANIFEST}


def _note(folder: Path, names: set[str]) -> None:
    (folder / MANIFEST).write_text(json.dumps(sorted(names), indent=0) + "\n", encoding="utf-8")
