"""The state of the data as part of a run's identity: what the files contain, not where they are.

The published files of a data set add nothing to a run's identity. Other contents under the same name do, and
so do a user's own images (`data=folder`). Never imports torch.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from normbench import parts
from normbench.data import published
from normbench.data.file_hashes import FileHashes, hashes_under
from normbench.data.folder_names import is_image, position
from normbench.data.limits import check, most
from normbench.data.members import printable
from normbench.data.walk import walk
from normbench.errors import InputError
from normbench.store import Store

#: A sweep asks once per run. A directory with more files than `_MANY` is looked through again only after one
#: second per `_MANY` files; before its images are used it is looked through in any case.
_MANY = 2000

_walked: dict[str, tuple[float, str]] = {}  # path → clock until which the fingerprint holds


def state(data: Mapping[str, Any], cache: Path | None = None, *, fresh: bool = False) -> str | None:
    """What identifies the data besides the name of the data set: sixteen hex digits, or None.

    A data set of a plugin is read, and its images and labels are hashed.

    None: generated data, or published files that are whole or that do not exist yet (a download is checked).

    Args:
        data:  the `data` group of a configuration; `name`, `path` and `root` are read.
        cache: the folder with remembered hashes; by default the cache folder of this shell's results. Nothing
            is written there; see `remember`.
        fresh: look at every file, even if a large directory was looked through a moment ago.

    Raises:
        InputError: files are damaged, cannot be read, or there are none at `path`.
    """
    name = data.get("name")
    if name == "folder" and isinstance(data.get("path"), str):
        return _folder_state(data["path"], cache, fresh)
    if parts.find("data", str(name)) is not None:
        from normbench.data.own import content

        return content(str(name), data.get("path"))
    if name == "digits":
        return published.digits_state()
    if name in published.IDX_MD5:
        root = data.get("root")
        return published.idx_state(
            name, published.root(root if isinstance(root, str) else None), cache or _cache()
        )
    return None


def fingerprint(path: str, cache: Path | None = None) -> str:
    """Sixteen hex digits that change when the data set at `path` changes and stay when it moves.

    An archive is hashed byte by byte. A directory is hashed by the relative path and the content of every
    file that `data=folder` reads; other files do not count.

    Raises:
        InputError: nothing is there, or it cannot be read.
    """
    return _fingerprint(path, cache)[0]


def _fingerprint(path: str, cache: Path | None) -> tuple[str, int]:
    """The fingerprint, and how many files were looked at."""
    place = Path(path).expanduser()
    try:
        hashes = hashes_under(place, "sha256", cache or _cache())
        if place.is_dir():
            return _directory(place, hashes)
        if place.exists() and not place.is_file():
            raise InputError(f"data.path={path} must be a directory or an archive; it is neither")
        return hashes.of("", place)[:16], 1
    except FileNotFoundError:
        raise InputError(
            f"no data at data.path={path}; give a directory or an archive (.tar, .tar.gz, .tgz, .zip) "
            "that holds train/<class>/ and test/<class>/"
        ) from None
    except OSError as error:
        raise InputError(
            f"cannot read {error.filename or path} of data.path={path}: {error.strerror or error}"
        ) from None


def remember(data: Mapping[str, Any], cache: Path) -> None:
    """Write the hashes that `state` computed into the cache folder; do nothing if it cannot be written."""
    if data.get("name") == "folder" and isinstance(data.get("path"), str):
        hashes_under(Path(data["path"]).expanduser(), "sha256", cache).save()
    elif data.get("name") in published.FILES:
        published.hashes(data["name"], published.root(data.get("root")), cache).save()


def check_unchanged(data: Mapping[str, Any], expected: str | None, cache: Path | None) -> None:
    """Compare the data on disk with the identity of the run that is about to use them.

    Raises:
        InputError: the data changed since the run's identity was computed.
    """
    found = state(data, cache, fresh=True)
    if found != expected:
        raise InputError(
            f"data={data['name']} must not change while a command runs; its content was "
            f"{expected or 'the published one'} and is now {found or 'the published one'}; repeat the command"
        )


def _folder_state(path: str, cache: Path | None, fresh: bool) -> str:
    place = str(Path(path).expanduser().absolute())
    if not fresh and place in _walked:
        until, known = _walked[place]
        if time.monotonic() < until:
            return known
    found, files = _fingerprint(path, cache)
    _walked[place] = (time.monotonic() + (files / _MANY if files > _MANY else 0), found)
    return found


def _directory(place: Path, hashes: FileHashes) -> tuple[str, int]:
    """Hash names and contents. Entries that the reader refuses count too: no earlier copy may hide them."""
    digest, files, bound = hashlib.sha256(), 0, most("MEMBERS")
    empty: dict[str, None] = {}  # class folders without an image so far
    for entry in walk(place):
        files += 1
        if files > bound:
            check("MEMBERS", files, f"data.path={place}: files and folders")
        at = position(entry.name)
        if at is None:
            continue
        if entry.kind == "folder":
            if at.class_name and not at.rest:
                empty[entry.name] = None
            continue
        if entry.kind == "file" and not (at.rest and is_image(entry.name)):
            continue
        if entry.kind == "file":
            empty.pop("/".join(entry.name.split("/")[: -len(at.rest.split("/"))]), None)
        if entry.stat is not None and entry.kind == "file":
            check("BYTES", entry.stat.st_size, f"{printable(entry.name)} of data.path={place}: bytes")
        content = hashes.of(entry.name, entry.path, entry.stat) if entry.kind == "file" else entry.kind
        digest.update(os.fsencode(entry.name) + f"\0{content}\n".encode())
    for name in empty:
        digest.update(os.fsencode(name) + b"\0empty\n")
    return digest.hexdigest()[:16], files


def _cache() -> Path:
    return Store.default().root / "cache"
