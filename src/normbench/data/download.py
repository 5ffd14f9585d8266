"""Fetching a torchvision data set so that the root holds it whole or not at all.

torchvision unpacks in place and takes MNIST's unpacked files for the data set by their names alone, so what
an interrupted download leaves would count as data. Here it works in a folder of its own, and finished files
are moved out.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from uuid import uuid4

#: Seconds without an answer after which a server is given up; torchvision alone would wait for ever.
PATIENCE_S = 15.0


class DownloadFailed(Exception):
    """Why a data set could not be fetched, in one line."""


def fetch(source: Any, root: Path, archives: Sequence[str]) -> None:
    """Download with torchvision's own addresses, checksums and progress bar.

    Args:
        source:   a torchvision data set class.
        root:     folder to hold the data set; created where it is absent, and removed again on failure.
        archives: packed files, relative to the root; those that lie there whole are unpacked and not fetched.

    Raises:
        DownloadFailed: no network, a wrong checksum, a full disk …; the root is as it was before.
    """
    absent = [folder for folder in (root, *root.parents) if not folder.exists()]
    workshop = root / f".download-{uuid4().hex}"
    try:
        workshop.mkdir(parents=True)
        for archive in archives:
            if (root / archive).is_file():
                (workshop / archive).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / archive, workshop / archive)
        with _patience():
            source(workshop, download=True)
        _move(workshop, root)
    except (OSError, RuntimeError, EOFError, HTTPException) as error:
        raise DownloadFailed(_last_line(error)) from None
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
        for folder in absent:
            with suppress(OSError):  # not empty: the download succeeded
                folder.rmdir()


def _move(workshop: Path, root: Path) -> None:
    """Move what was unpacked, file by file: each is whole, and replaces a damaged one of its name."""
    for file in sorted(workshop.rglob("*")):
        if file.is_file() and file.suffix != ".gz":
            target = root / file.relative_to(workshop)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)


@contextmanager
def _patience() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip("<> ") if lines else type(error).__name__
