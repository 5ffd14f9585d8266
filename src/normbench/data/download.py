"""Download a torchvision data set so that the root holds all of it or none of it.

torchvision unpacks in place, and it recognises MNIST's unpacked files by their names alone. So the remains
of an interrupted download would count as data. Here torchvision works in a temporary folder; finished files
are moved out of it.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

from normbench.leftovers import draft_beside, remove_leftovers

#: Give up if a server does not answer for this many seconds. torchvision alone would wait for ever.
TIMEOUT_S = 15.0


class DownloadFailed(Exception):
    """The cause in one line."""


def fetch(source: Any, root: Path, archives: Sequence[str]) -> None:
    """Download with torchvision's own addresses, checksums and progress bar.

    Args:
        source:   a torchvision data set class.
        root:     folder to hold the data set; created if it does not exist, and removed again on failure.
        archives: packed files, relative to the root; whole ones that exist are unpacked, not downloaded.

    Raises:
        DownloadFailed: no network, a wrong checksum or a full disk, for example. The root is unchanged.
    """
    absent = [folder for folder in (root, *root.parents) if not folder.exists()]
    staging = draft_beside(root / "download")
    remove_leftovers(root)
    try:
        staging.mkdir(parents=True)
        for archive in archives:
            if (root / archive).is_file():
                (staging / archive).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / archive, staging / archive)
        with _socket_timeout():
            source(staging, download=True)
        _move(staging, root)
    except (OSError, RuntimeError, EOFError, HTTPException) as error:
        raise DownloadFailed(_last_line(error)) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        for folder in absent:
            with suppress(OSError):  # not empty: the download succeeded
                folder.rmdir()


def _move(staging: Path, root: Path) -> None:
    """Move the unpacked files. Each one is whole and replaces a damaged file of the same name."""
    for file in sorted(staging.rglob("*")):
        if file.is_file() and file.suffix != ".gz":
            target = root / file.relative_to(staging)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)


@contextmanager
def _socket_timeout() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip("<> ") if lines else type(error).__name__
