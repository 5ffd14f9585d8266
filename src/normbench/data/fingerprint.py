"""Identity of a user's data set: what the files hold, not where they lie."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from normbench.errors import InputError


@lru_cache(maxsize=64)
def fingerprint(path: str) -> str:
    """Sixteen hex digits that change when the data set at `path` changes and stay when it moves.

    An archive is hashed byte by byte; a directory by the sorted relative path and size of every file.

    Raises:
        InputError: nothing is there, or it cannot be read.
    """
    place = Path(path).expanduser()
    digest = hashlib.sha256()
    try:
        if place.is_dir():
            for file in sorted(p for p in place.rglob("*") if p.is_file()):
                digest.update(f"{file.relative_to(place).as_posix()}\0{file.stat().st_size}\n".encode())
        else:
            with place.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    except FileNotFoundError:
        raise InputError(
            f"no data at data.path={path}; give a directory or an archive (.tar, .tar.gz, .tgz, .zip) "
            "that holds train/<class>/ and test/<class>/"
        ) from None
    except OSError as error:
        raise InputError(f"cannot read data.path={path}: {error.strerror or error}") from None
    return digest.hexdigest()[:16]
