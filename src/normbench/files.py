"""Files that a reader never meets half written."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from normbench.leftovers import draft_beside


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part; the folder must exist."""
    temporary = draft_beside(path)
    try:
        with temporary.open("xb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def last_bytes(file: Path) -> str:
    """The last bytes of a file as text; empty if it cannot be read."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - 64))
            return stream.read().decode("utf-8", "replace").rstrip()
    except OSError:
        return ""


def try_writing(folder: Path) -> None:
    """Write a file into a folder, or into its nearest parent that exists, and remove it.

    Raises:
        OSError: nothing can be written there.
    """
    nearest = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not nearest.is_dir():
        raise NotADirectoryError(f"{nearest} is not a folder")
    probe = nearest / f".normbench-{secrets.token_hex(8)}"
    write_atomically(probe, "can this be written?\n")
    probe.unlink()
