"""The files of a directory or an archive, one after the other; nothing is ever extracted to disk."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from normbench.errors import InputError


class Member(NamedTuple):
    """A file: its path inside, with forward slashes, and how to read it before asking for the next one."""

    name: str
    read: Callable[[], bytes]


def members(path: Path) -> Iterator[Member]:
    """Walk the regular files of a directory, or of a .tar, .tar.gz, .tgz or .zip archive (told by content).

    An archive is read once, from beginning to end; its checksums and end mark are verified on the way.

    Raises:
        InputError: nothing there, no permission, no archive, or a damaged one; the place of the damage is
            named. Reading a member raises the same.
    """
    walk, place = _walk(path), "at its start"
    while True:
        with _one_line(path, place):
            member = next(walk, None)
        if member is None:
            return
        yield Member(member.name, partial(_read, path, member))
        place = f"after {member.name}"


def _read(path: Path, member: Member) -> bytes:
    with _one_line(path, f"at {member.name}"):
        return member.read()


@contextmanager
def _one_line(path: Path, place: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"no data at data.path={path}; give a directory or an archive") from None
    except PermissionError as error:
        raise InputError(
            f"data.path={path} must be readable; no permission for {error.filename}; give it"
        ) from None
    except (OSError, EOFError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"data.path={path} cannot be read {place} ({error}); an archive must be a whole .tar, .tar.gz, "
            ".tgz or .zip: copy or pack it again"
        ) from None


def _walk(path: Path) -> Iterator[Member]:
    if path.is_dir():
        yield from _directory(path)
        return
    with path.open("rb") as file:
        magic = file.read(2)
        file.seek(0)
        if magic == b"PK":
            yield from _zip(file)
        elif magic == b"\x1f\x8b":
            with gzip.open(file) as stream:
                yield from _tar(stream)
        else:
            yield from _tar(file)


def _directory(path: Path) -> Iterator[Member]:
    for file in sorted(path.rglob("*")):
        if file.is_file():
            yield Member(file.relative_to(path).as_posix(), file.read_bytes)


def _zip(file: IO[bytes]) -> Iterator[Member]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                yield Member(info.filename, partial(archive.read, info))


def _tar(stream: IO[bytes] | gzip.GzipFile) -> Iterator[Member]:
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        for info in archive:
            if info.isreg():
                yield Member(info.name, partial(_content, archive, info))
        stream.seek(archive.offset)
        rest = stream.read()
    # tarfile takes a damaged header for the end of the archive; the real end is marked by blocks of zeros.
    if not rest or rest.strip(b"\0"):
        raise tarfile.ReadError("the end mark is missing")


def _content(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(info)
    return stream.read() if stream else b""
