"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from normbench.leftovers import draft_beside, remove_leftovers

Content = str | bytes | Callable[[BinaryIO], object]


def write_atomically(
    path: Path, content: Content, guard: Callable[[], object] = lambda: None, *, new: bool = False
) -> None:
    """Write a file so that a reader sees the old content or the new, never a part; the folder must exist.

    Args:
        content: text, bytes, or a function that writes to the open file.
        guard:   called when the content is on disk, before the file gets its name. If it raises, the file
                 is not written.
        new:     refuse to replace a file. Exclusive if the file system has hard links.

    Raises:
        FileExistsError: there is a file already, and `new` was asked for.
    """
    temporary = draft_beside(path)
    try:
        with temporary.open("xb") as stream:
            if callable(content):
                content(stream)
            else:
                stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        guard()
        if new:
            _link(temporary, path)
        else:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _link(temporary: Path, path: Path) -> None:
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError(f"{path} exists") from None
        temporary.replace(path)


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on disk, so that they outlast a power cut. Nothing if the system cannot."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def last_bytes(file: Path) -> str:
    """The last bytes of a file as text; empty if it cannot be read."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - 64))
            return stream.read().decode("utf-8", "replace").rstrip()
    except OSError:
        return ""


def folders_in(parent: str | Path) -> list[os.DirEntry[str]]:
    """The folders in a folder; none if it cannot be read. PERF: a third of the time of Path.glob."""
    try:
        with os.scandir(parent) as entries:
            return [entry for entry in entries if entry.is_dir()]
    except OSError:
        return []


def try_writing(folder: Path) -> None:
    """Write a file into a folder, or into its nearest parent that exists, and remove it.

    Raises:
        OSError: nothing can be written there.
    """
    nearest = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not nearest.is_dir():
        raise NotADirectoryError(f"{nearest} is not a folder")
    remove_leftovers(nearest)  # among them probes of processes that were killed here
    probe = draft_beside(nearest / "probe")
    write_atomically(probe, "can this be written?\n")
    probe.unlink()
