"""Content hashes of files, remembered so that asking again costs one `stat` per file.

A hash is remembered with the file's size, modification time, change time and inode. The system sets the
change time at every write and rename, so a restored modification time (`cp -p`, `rsync -t`, `touch -d`) hides
nothing. A file that changed less than `UNSETTLED_NS` before it was hashed is hashed again next time: a second
write may fall into the same tick of the file system's clock.

A file dated in the future is hashed every time.

Not noticed: a change that leaves all four values as they were. That needs a clock that was set back, or a
program that writes to the disk below the file system.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from normbench.errors import RunFailure
from normbench.files import write_atomically
from normbench.leftovers import remove_leftovers

#: Nanoseconds: the coarsest clock of a file system in use (FAT) ticks every two seconds.
UNSETTLED_NS = 2_000_000_000
_BLOCK = 1 << 20

#: Size, modification time, change time, inode.
_Stamp = tuple[int, int, int, int]


class FileHashes:
    """Hashes of the files under one path.

    Args:
        algorithm: a name that `hashlib` knows.
        memory:    the file that keeps the hashes between processes; None keeps them in this process only.
    """

    def __init__(self, algorithm: str, memory: Path | None) -> None:
        self._algorithm, self._memory = algorithm, memory
        self._known = _load(memory, algorithm)
        self._unsaved = False

    def of(self, name: str, path: str | Path, stat: os.stat_result | None = None) -> str:
        """Hex digest of the file's content.

        Args:
            name: identifies the file under the common path.
            path: the file.
            stat: its `os.stat`, if that is known already.

        Raises:
            OSError: the file cannot be read.
        """
        before = _stamp(stat or Path(path).stat())
        known = self._known.get(name)
        if known is not None and known[0] == before:
            return known[1]
        asked = time.time_ns()
        with Path(path).open("rb") as stream:
            digest = hashlib.new(self._algorithm, usedforsecurity=False)
            while block := stream.read(_BLOCK):
                digest.update(block)
            after = _stamp(os.fstat(stream.fileno()))
        if before == after and max(after[1:3]) < asked - UNSETTLED_NS:
            self._known[name] = (after, digest.hexdigest())
            self._unsaved = True
        return digest.hexdigest()

    def save(self) -> None:
        """Write the hashes to the memory file; if that fails, the next process hashes again."""
        if self._memory is None or not self._unsaved:
            return
        files = {name: [*stamp, digest] for name, (stamp, digest) in self._known.copy().items()}
        with suppress(OSError, RunFailure):
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self._memory.parent)
            write_atomically(self._memory, json.dumps({"algorithm": self._algorithm, "files": files}))
            self._unsaved = False


@lru_cache(maxsize=64)
def _shared(root: str, algorithm: str, cache: str | None) -> FileHashes:
    key = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    return FileHashes(algorithm, None if cache is None else Path(cache) / "hashes" / f"{key}.json")


def hashes_under(root: Path, algorithm: str, cache: Path | None) -> FileHashes:
    """The hashes of the files under `root`: one object per process, root and cache folder."""
    return _shared(str(root.absolute()), algorithm, None if cache is None else str(cache.absolute()))


def _stamp(stat: os.stat_result) -> _Stamp:
    return (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


def _load(memory: Path | None, algorithm: str) -> dict[str, tuple[_Stamp, str]]:
    """What an earlier process wrote; nothing if the file is absent, damaged or of another algorithm."""
    if memory is None:
        return {}
    try:
        tree = json.loads(memory.read_text(encoding="utf-8"))
        if tree["algorithm"] != algorithm:
            return {}
        length = hashlib.new(algorithm, usedforsecurity=False).digest_size * 2
        return {
            name: ((int(size), int(mtime), int(ctime), int(inode)), digest)
            for name, (size, mtime, ctime, inode, digest) in tree["files"].items()
            if isinstance(digest, str) and len(digest) == length
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
