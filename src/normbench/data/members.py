"""The entries of a directory or an archive, one after the other; nothing is ever unpacked to disk."""

from __future__ import annotations

import gzip
import os
import posixpath
import stat
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Literal, NamedTuple

from normbench.data.limits import check, check_unpacked, most
from normbench.data.walk import walk
from normbench.errors import InputError
from normbench.visible import visible

#: A member's name, and how many earlier members of the archive have the same name.
Key = tuple[str, int]

_BLOCK = 1 << 20


class Member(NamedTuple):
    """One entry.

    `name` has forward slashes, no "." part and no leading slash, as `tar -x` would write it. A "link" leads
    to `target`, a name in the same archive. Links in a directory are followed and not shown as links.
    """

    name: str
    kind: Literal["file", "folder", "link", "hard link", "broken link", "loop", "special file"]
    read: Callable[[], bytes]  # of a file; call it before asking for the next member
    target: str = ""


def members(path: Path) -> Iterator[Member]:
    """Walk a directory, or a .tar, .tar.gz, .tgz or .zip archive (recognised by content).

    An archive is read once, from beginning to end; its checksums and end mark are verified on the way.

    Raises:
        InputError: there is nothing, no permission, no archive, a damaged one, or one that passes a limit of
            `data.limits`; the place is named. Reading a member raises the same.
    """
    walking, place, number = _walk(path), "at its start", 0
    while True:
        with _as_input_error(path, place):
            member = next(walking, None)
        if member is None:
            return
        number += 1
        if number > most("MEMBERS"):
            check("MEMBERS", number, f"data.path={path}: files and folders")
        yield member._replace(read=partial(_read, path, member))
        place = f"after {printable(member.name)}"


def keyed_members(path: Path) -> Iterator[tuple[Key, Member]]:
    """`members`, each with a key that does not depend on members of other names."""
    seen: Counter[str] = Counter()
    for member in members(path):
        yield (member.name, seen[member.name]), member
        seen[member.name] += 1


def printable(name: str) -> str:
    """A name that any terminal and file can hold: bytes that are no UTF-8, and control codes, are escapes.

    >>> printable(b"caf\\xe9.png".decode("utf-8", "surrogateescape"))
    'caf\\\\xe9.png'
    """
    return visible(os.fsencode(name).decode("utf-8", "backslashreplace"))


def clean(name: str) -> str:
    """A member's name without "." parts, doubled slashes and leading slashes.

    >>> clean("./train//cat/0.png"), clean("/train/cat/")
    ('train/cat/0.png', 'train/cat')
    """
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _read(path: Path, member: Member) -> bytes:
    with _as_input_error(path, f"at {printable(member.name)}"):
        return member.read()


@contextmanager
def _as_input_error(path: Path, place: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"no data at data.path={path}; give a directory or an archive") from None
    except PermissionError as error:
        raise InputError(
            f"data.path={path} must be readable; no permission for {error.filename}; give it"
        ) from None
    except InputError:
        raise
    except Exception as error:  # readers of archives meet damaged bytes with almost any exception
        raise InputError(
            f"data.path={path} cannot be read {place} ({error}); an archive must be a whole .tar, .tar.gz, "
            ".tgz or .zip: copy or pack it again"
        ) from None


def _walk(path: Path) -> Iterator[Member]:
    if path.is_dir():
        for entry in walk(path):
            yield Member(entry.name, entry.kind, partial(read_file, path, entry.name, Path(entry.path)))
        return
    if not path.is_file() and path.exists():
        raise InputError(f"data.path={path} must be a directory or an archive; it is a pipe or a device")
    with path.open("rb") as file:
        magic = file.read(2)
        file.seek(0)
        if magic == b"PK":
            yield from _zip(path, file)
        elif magic == b"\x1f\x8b":
            with gzip.open(file) as stream:
                yield from _tar(path, _Unpacked(path, stream))  # type: ignore[arg-type]
        else:
            yield from _tar(path, file)


class _Unpacked:
    """A stream of unpacked bytes that ends the reading at a limit. Headers may ask for gigabytes, too."""

    def __init__(self, path: Path, stream: gzip.GzipFile) -> None:
        self._path, self._stream, self._packed = path, stream, path.stat().st_size

    def read(self, count: int) -> bytes:
        check("BYTES", count, f"data.path={self._path}: bytes of one header")
        content = self._stream.read(count)
        check_unpacked(self._stream.tell(), self._packed, f"data.path={self._path}")
        return content

    def seek(self, place: int) -> int:
        check_unpacked(place, self._packed, f"data.path={self._path}")
        return self._stream.seek(place)

    def tell(self) -> int:
        return self._stream.tell()


def read_file(path: Path, name: str, file: Path) -> bytes:
    """The content of a file called `name` inside `path`.

    Raises:
        InputError: it passes the limit of `data.limits`.
        OSError:    it cannot be read.
    """
    check("BYTES", file.stat().st_size, f"{printable(name)} of data.path={path}: bytes")
    return file.read_bytes()


def _unzip(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    check("BYTES", info.file_size, f"{printable(info.filename)} of data.path={path}: bytes")
    return archive.read(info)


def _zip(path: Path, file: IO[bytes]) -> Iterator[Member]:
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        unpacked = sum(info.file_size for info in infos)
        check_unpacked(unpacked, path.stat().st_size, f"data.path={path}")
        for info in infos:
            # Slashes are the only separators that the format allows; some programs write the other ones.
            name, read = info.filename.replace("\\", "/"), partial(_unzip, path, archive, info)
            if stat.S_ISLNK(info.external_attr >> 16):
                target = read().decode("utf-8", "surrogateescape")
                yield Member(clean(name), "link", read, _beside(clean(name), target))
            else:
                yield Member(clean(name), "folder" if name.endswith("/") else "file", read)


def _tar(path: Path, stream: IO[bytes]) -> Iterator[Member]:
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        for info in archive:
            name, read = clean(info.name), partial(_content, path, archive, info)
            if info.isreg():
                yield Member(name, "file", read)
            elif info.isdir():
                yield Member(name, "folder", read)
            elif info.islnk():
                yield Member(name, "hard link", read, clean(info.linkname))
            elif info.issym():
                yield Member(name, "link", read, _beside(name, info.linkname))
            else:
                yield Member(name, "special file", read)
        stream.seek(archive.offset)
        rest = stream.read(_BLOCK)
        # tarfile takes a damaged header for the end of the archive; zeros mark the real end
        if not rest or rest.strip(b"\0"):
            raise tarfile.ReadError("the end mark is missing")
        while rest := stream.read(_BLOCK):
            if rest.strip(b"\0"):
                raise tarfile.ReadError("something follows the end mark")


def _beside(name: str, target: str) -> str:
    """Where a symbolic link leads, from the top of the archive; "/…" and "../…" lead out of it."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), target))


def _content(path: Path, archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    check("BYTES", info.size, f"{printable(info.name)} of data.path={path}: bytes")
    stream = archive.extractfile(info)
    return stream.read() if stream else b""
