"""Stored states that runs start from: the value of `model.weights` → a file and the hash of its content.

    model.weights=0123456789abcdef     the final state of a run of the store, by the start of its signature
    model.weights=weights.safetensors  a file, or a folder with a file of this name

The hash is part of a run's identity, and the place of the file is not. Never imports torch.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from normbench.errors import InputError
from normbench.store import Store

#: The start of a signature. A file with such a name needs its folder: ./0123abcd.
_SIGNATURE = re.compile(r"[0-9a-fA-F]{4,16}")


def locate(given: object) -> tuple[str, Path]:
    """The one spelling of a value of `model.weights`, and the file that it names.

    The start of a signature becomes the whole signature.

    Raises:
        InputError: it is neither a run with a final state nor a file.
    """
    if not isinstance(given, str | int) or isinstance(given, bool):
        raise InputError(
            f"model.weights must be the signature of a run or a safetensors file; got {given!r}; "
            "write a signature that looks like a number in quotes: 'model.weights=\"12e4\"'"
        )
    text = str(given)
    if _SIGNATURE.fullmatch(text):
        return _of_run(text.lower())
    file = Path(text).expanduser()
    if file.is_dir():
        file /= "weights.safetensors"
    if not file.is_file():
        raise InputError(
            f"model.weights={text}: there is no file {file}; give a safetensors file, or 4 to 16 hex digits "
            "of the signature of a run"
        )
    return text, file


def _of_run(start: str) -> tuple[str, Path]:
    store = Store.default()
    file = store.weights_file(start)
    if not file.is_file():
        try:
            start = store.find(start).signature
        except InputError as error:
            raise InputError(f"model.weights: {error}") from None
        file = store.weights_file(start)
    if not file.is_file():
        raise InputError(
            f"model.weights={start}: this run keeps no final state; train it again with keep_weights=true"
        )
    return start, file


class Contents(NamedTuple):
    """The contents of a stored state.

    Attributes:
        digest: sixteen hex digits of the SHA-256 of names, types, shapes and values, and of the norm's key.
        shapes: of the tensors, by name.
        norm:   key of the norm whose state it is, from the metadata or the run's record; None if unknown.
    """

    digest: str
    shapes: dict[str, tuple[int, ...]]
    norm: str | None


def contents(file: Path) -> Contents:
    """Read a safetensors file.

    The order in which a file holds its tensors and its further metadata do not count: safetensors writes
    them in any order.

    Raises:
        InputError: it cannot be read, or it is no safetensors file.
    """
    try:
        about = file.stat()
        return _contents(file, about.st_mtime_ns, about.st_size)
    except OSError as error:
        raise InputError(f"model.weights: {file} cannot be read: {error.strerror or error}") from None
    except (ValueError, TypeError, LookupError, AttributeError, struct.error):
        raise InputError(f"model.weights must be a safetensors file; {file} is none, or is damaged") from None


@lru_cache(maxsize=256)  # PERF: the runs of a sweep share few files
def _contents(file: Path, changed_ns: int, size: int) -> Contents:
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > size:
            raise ValueError("no header")
        header: dict[str, Any] = json.loads(stream.read(length))
        about = header.pop("__metadata__", {})
        norm = about.get("norm")
        if norm is None and (record := Store.default().get(about.get("signature", "0" * 16))) is not None:
            norm = str(record.spec["norm"]["name"])
        digest = hashlib.sha256(f"{norm}\n".encode())
        for name, entry in sorted(header.items()):
            begin, end = entry["data_offsets"]
            stream.seek(8 + length + begin)
            values = stream.read(end - begin)
            if len(values) != end - begin:
                raise ValueError("cut short")
            digest.update(f"{name}\0{entry['dtype']}\0{entry['shape']}\n".encode() + values)
    shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
    return Contents(digest.hexdigest()[:16], shapes, norm)
